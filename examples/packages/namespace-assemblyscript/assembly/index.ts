// The namespace package in AssemblyScript: it takes `data.name` from its input and answers with one file,
// `namespace.yaml`, that describes a Kubernetes namespace of that name. It shows a package whose strings are UTF-16 and
// whose memory is garbage collected. It imports nothing.
//
// To build it (npm install assemblyscript), from this folder:
//
//     asc assembly/index.ts -O2 --runtime incremental --use abort= --outFile ../namespace-assemblyscript.wasm
//
// or `cargo xtask packages --only namespace-assemblyscript` from any folder of the project. Without `--use abort=` the
// module imports `env.abort`, which every host of this layer provides.

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

/** Answers an input with a result, both YAML. */
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

/** `data.name`, or "" where there is none to use. This reads the lines that matter here, not YAML as a whole. */
function findName(input: string): string {
  let inData = false;
  const lines = input.replaceAll("\r", "\n").split("\n");
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    // Two spaces, no more: names deeper in the document are not ours.
    if (inData && hasKey(line, "  name:")) return readName(trimBlanks(line.substring(7)));
    // A line that begins at the margin, unless it is a comment, ends what came before it.
    if (line != "" && !" \t#".includes(line.charAt(0))) inData = hasKey(line, "data:");
  }
  return "";
}

function hasKey(line: string, key: string): bool {
  return line.startsWith(key) && (line.length == key.length || isBlank(line.charAt(key.length)));
}

/** The name as it is written, quotes included, without a comment behind it. */
function readName(text: string): string {
  const quote = text.charAt(0);
  // These mean something else at the start.
  if (text == "" || "-?:,[]{}#&*!|>@`%~".includes(quote)) return "";
  const length = quote == '"' || quote == "'" ? quotedLength(text, quote) : plainLength(text);
  const name = text.substring(0, length);
  const rest = text.substring(length);
  const comment = trimBlanks(rest);
  const endsHere = comment == "" || (isBlank(rest.charAt(0)) && comment.startsWith("#"));
  return endsHere && name != "null" && name != '""' && name != "''" ? name : "";
}

/** The length of a text without quotes, up to a `#` that follows a blank. */
function plainLength(text: string): i32 {
  let length = 0;
  for (let i = 0; i < text.length && !(text.charAt(i) == "#" && length < i); i++) {
    if (!isBlank(text.charAt(i))) length = i + 1;
  }
  return length;
}

/** The length of the quoted text at the start, both quotes included; 0 if it does not end. */
function quotedLength(text: string, quote: string): i32 {
  for (let i = 1; i < text.length; i++) {
    const c = text.charAt(i);
    if (c == "\\" && quote == '"') i++; // takes the next character along
    else if (c == "'" && quote == "'" && text.charAt(i + 1) == "'") i++; // two stand for one
    else if (c == quote) return i + 1;
  }
  return 0;
}

function isBlank(c: string): bool {
  return c == " " || c == "\t";
}

/** Without blanks at either end. `trim` would take other white space, too. */
function trimBlanks(text: string): string {
  let start = 0, end = text.length;
  while (start < end && isBlank(text.charAt(start))) start++;
  while (start < end && isBlank(text.charAt(end - 1))) end--;
  return text.substring(start, end);
}

// What follows is how the host reaches the package. What it is handed is pinned: the garbage collector, which knows
// nothing of the host, leaves it alone until it comes back.

/** How a package hands out a text: the host is given the address of one of these and reads both numbers. */
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
