// The namespace package in AssemblyScript, with `guest/assemblyscript/mistletoe.ts`.
//
// Build it from this directory (npm install assemblyscript):
//
//     asc assembly/index.ts -O2 --runtime incremental --lib ../../../guest/assemblyscript
//         --use abort=~lib/mistletoe/abort --outFile ../namespace-assemblyscript.wasm
//
// or, from any directory of the project, with `cargo xtask packages --only namespace-assemblyscript`.

import { definePackage, Files, Input, log, scalar } from "mistletoe";
export {
  __mistletoe_alloc, __mistletoe_dealloc, __mistletoe_generate, __mistletoe_info, __mistletoe_panic,
} from "mistletoe";

definePackage(generate, `metadata:
  name: namespace-assemblyscript
  labels:
    mistletoe.dev/group: examples
`);

function generate(input: Input, files: Files): void {
  const panic = input.get("panic");
  if (panic) throw new Error(panic); // shows what the user sees if a package has a bug
  const name = input.get("name");
  if (!name) return files.fail("the name is empty");
  log("a namespace");
  files.add("namespace.yaml", `apiVersion: v1
kind: Namespace
metadata:
  name: ${scalar(name)}
`);
}
