// A Kubernetes namespace with the label of a team.

#include "mistletoe.h"

static void generate(void) {
    mistletoe_file("namespace.yaml");
    mistletoe_write("apiVersion: v1\n"
                    "kind: Namespace\n"
                    "metadata:\n"
                    "  name: ");
    mistletoe_write_scalar(mistletoe_value("name"));
    mistletoe_write("\n"
                    "  labels:\n"
                    "    team: ");
    mistletoe_write_scalar(mistletoe_value("team"));
    mistletoe_write("\n");
}

MISTLETOE_PACKAGE(generate,
                  "metadata:\n"
                  "  name: {{name}}\n"
                  "defaults:\n"
                  "  team: platform\n"
                  "inputSchema:\n"
                  "  type: object\n"
                  "  required: [name, team]\n"
                  "  additionalProperties: false\n"
                  "  properties:\n"
                  "    name:\n"
                  "      type: string\n"
                  "      description: The name of the namespace.\n"
                  "      maxLength: 63\n"
                  "    team:\n"
                  "      type: string\n"
                  "      description: The team that owns the namespace.\n")
