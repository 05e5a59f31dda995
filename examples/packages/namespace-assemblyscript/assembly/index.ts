// The namespace package in AssemblyScript: it reads `data.name` from its input and returns one file, `namespace.yaml`,
// which describes a Kubernetes namespace of that name. It shows a package whose strings are UTF-16 and whose memory is
// garbage collected. It imports nothing.
//
// Build it from this directory (npm install assemblyscript):
//
//     asc assembly/index.ts -O2 --runtime incremental --use abort= --outFile ../namespace-assemblyscript.wasm
//
// or, from any directory of the project, with `cargo xtask packages --only namespace-assemblyscript`. Without
// `--use abort=` the module imports `env.abort`, which every host of this layer provides.

const description = `apiVersion: mistletoe.dev/v1alpha1
kind: MistPackage
metadata:
  name: namespace-assemblyscript
  labels:
    mistletoe.dev/group: examples
`;

const resultStart = `apiVersion: mistletoe.dev/v1alpha1
kind: MistResult
data:
  result: `;

const noName = `${resultStart}Err
  message: 'name the namespace in the input, on one line: "name: my-namespace" under "data:"'
`;

/** Returns the result for an input, both YAML. */
function generate(input: string): string {
  const name = findName(input);
  if (name == "") return noName;
  return `${resultStart}Ok
  files:
    namespace.yaml: |
      apiVersion: v1
      kind: Namespace
      metadata:
        name: ${name}
`;
}

/** Returns `data.name`, or "" if there is none to use. This reads only the lines that matter here, not all of YAML. */
function findName(input: string): string {
  let inData = false;
  const lines = input.replaceAll("\r", "\n").split("\n");
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    // Exactly two spaces: names deeper in the document do not count.
    if (inData && hasKey(line, "  name:")) return readName(trimBlanks(line.substring(7)));
    // A line without indentation, unless it is a comment, ends what came before it.
    if (line != "" && !" \t#".includes(line.charAt(0))) inData = hasKey(line, "data:");
  }
  return "";
}

function hasKey(line: string, key: string): bool {
  return line.startsWith(key) && (line.length == key.length || isBlank(line.charAt(key.length)));
}

/** Returns the name as it is written, quotes included, without a comment after it. */
function readName(text: string): string {
  const quote = text.charAt(0);
  // At the start, these mean something else.
  if (text == "" || "-?:,[]{}#&*!|>@`%~".includes(quote)) return "";
  const length = quote == '"' || quote == "'" ? quotedLength(text, quote) : plainLength(text);
  const name = text.substring(0, length);
  const rest = text.substring(length);
  const comment = trimBlanks(rest);
  const endsHere = comment == "" || (isBlank(rest.charAt(0)) && comment.startsWith("#"));
  return endsHere && name != "null" && name != '""' && name != "''" ? name : "";
}

/** Returns the length of a text without quotes, up to a `#` that follows a blank. */
function plainLength(text: string): i32 {
  let length = 0;
  for (let i = 0; i < text.length && !(text.charAt(i) == "#" && length < i); i++) {
    if (!isBlank(text.charAt(i))) length = i + 1;
  }
  return length;
}

/** Returns the length of the quoted text at the start, both quotes included; 0 if it does not end. */
function quotedLength(text: string, quote: string): i32 {
  for (let i = 1; i < text.length; i++) {
    const c = text.charAt(i);
    if (c == "\\" && quote == '"') i++; // escapes the next character
    else if (c == "'" && quote == "'" && text.charAt(i + 1) == "'") i++; // two mean one
    else if (c == quote) return i + 1;
  }
  return 0;
}

function isBlank(c: string): bool {
  return c == " " || c == "\t";
}

/** Removes blanks at both ends. `trim` would also remove other white space. */
function trimBlanks(text: string): string {
  let start = 0, end = text.length;
  while (start < end && isBlank(text.charAt(start))) start++;
  while (start < end && isBlank(text.charAt(end - 1))) end--;
  return text.substring(start, end);
}

// The rest is how the host reaches the package. What the host gets is pinned: the garbage collector, which knows
// nothing of the host, leaves it alone until the host hands it back.

/** How a package returns a text: the host gets the address of such an object and reads both numbers. */
@unmanaged
class Text {
  address: usize;
  length: usize;

  of(text: string): Text {
    const bytes = String.UTF8.encode(text);
    this.address = __pin(changetype<usize>(bytes));
    this.length = bytes.byteLength;
    return this;
  }
}

const info = new Text().of(description);
const answer = new Text();

export function __mistletoe_info(): Text {
  return info;
}

export function __mistletoe_alloc(length: usize): usize {
  return __pin(__new(length, idof<ArrayBuffer>()));
}

export function __mistletoe_dealloc(block: usize, _length: usize): void {
  __unpin(block);
}

export function __mistletoe_generate(input: usize, length: usize): Text {
  return answer.of(generate(String.UTF8.decodeUnsafe(input, length)));
}
