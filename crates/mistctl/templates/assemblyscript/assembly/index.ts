// A Kubernetes namespace with the label of a team.

import { definePackage, Files, Input, scalar } from "mistletoe";
export {
  __mistletoe_alloc, __mistletoe_dealloc, __mistletoe_generate, __mistletoe_info, __mistletoe_panic,
} from "mistletoe";

definePackage(generate, `metadata:
  name: {{name}}
defaults:
  team: platform
inputSchema:
  type: object
  required: [name, team]
  additionalProperties: false
  properties:
    name:
      type: string
      description: The name of the namespace.
      maxLength: 63
    team:
      type: string
      description: The team that owns the namespace.
`);

function generate(input: Input, files: Files): void {
  const name = input.get("name"), team = input.get("team");
  if (!name || !team) return files.fail("a value is missing");
  files.add("namespace.yaml", `apiVersion: v1
kind: Namespace
metadata:
  name: ${scalar(name)}
  labels:
    team: ${scalar(team)}
`);
}
