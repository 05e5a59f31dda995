/**
 * Makes a Mistletoe package of a function.
 *
 *     import { definePackage, Files, Input, scalar } from "mistletoe";
 *     export {
 *       __mistletoe_alloc, __mistletoe_dealloc, __mistletoe_generate, __mistletoe_info, __mistletoe_panic,
 *     } from "mistletoe";
 *
 *     definePackage(generate, `metadata:
 *       name: example
 *     `);
 *
 *     function generate(input: Input, files: Files): void {
 *       const name = input.get("name");
 *       if (!name) return files.fail("the name is empty");
 *       files.add("values.yaml", `name: ${scalar(name)}\n`);
 *     }
 *
 * Build it with the directory of this file as a library:
 *
 *     asc assembly/index.ts -O2 --runtime incremental --lib guest/assemblyscript --use abort=~lib/mistletoe/abort
 *         --outFile package.wasm
 *
 * A failure and a panic, which is what `throw` and a failed check of the language are, become a MistResult with
 * `result: Err`. Only a package that calls `log` imports WASI.
 */

import { BLOCK_MAXSIZE } from "rt/common";

/** The values that a user sets, and the place to report those that do not fit. */
export class Input {
  constructor(
    /** The whole input, a MistInput, for packages that parse it themselves. */
    readonly text: string,
    private files: Files,
  ) {}

  /**
   * Returns a value of the mapping `data`, without its quotes and escapes, or null if it is missing or null.
   *
   * This reads what hosts write, not all of YAML: `data` in block style, and below it scalars that are plain or quoted
   * on one line, or literal blocks (`|`). If the value is anything else, such as a list, the package fails with a
   * message that names it.
   */
  get(key: string): string | null {
    const text = this.text.startsWith("\uFEFF") ? this.text.substring(1) : this.text;
    const lines = text.replaceAll("\r\n", "\n").replaceAll("\r", "\n").split("\n");
    let at = 0;
    while (at < lines.length && !lines[at].startsWith("data:")) at++;
    if (at == lines.length || !isEmpty(trim(lines[at].substring(5)))) {
      this.files.fail("the input has no mapping `data` in block style");
      return null;
    }
    let indent = 0;
    for (at++; at < lines.length; at++) {
      const line = lines[at];
      if (isEmpty(trim(line))) continue;
      const spaces = indentOf(line);
      if (spaces == 0) break;
      if (indent == 0) indent = spaces;
      if (spaces != indent) continue;
      const value = afterKey(trim(line), key);
      if (value === null) continue;
      const scalar = readScalar(value, lines, at + 1, indent);
      if (!scalar.supported) this.files.fail(`data.${key}: expected a scalar on one line or a literal block`);
      return scalar.text;
    }
    return null;
  }
}

/** What a package generates. */
export class Files {
  /** What the host shows to the user besides the files. */
  message: string | null = null;
  private files: Map<string, string> = new Map();
  private failure: string | null = null;

  /** Adds a file. */
  add(name: string, content: string): void {
    if (this.files.has(name)) this.fail(`the file ${scalar(name)} is generated twice`);
    this.files.set(name, content);
  }

  /** Makes the call fail with this message. The function should return soon. The first failure counts. */
  fail(message: string): void {
    if (this.failure === null) this.failure = message;
  }

  /** Returns the MistResult. */
  toString(): string {
    const failure = this.failure;
    if (failure !== null) return errStart() + block(failure, "    ");
    const message = this.message;
    let document = header("MistResult") + "data:\n  result: Ok\n";
    if (message !== null) document += "  message: " + block(message, "    ");
    const names = this.files.keys();
    if (names.length > 0) document += "  files:\n";
    for (let i = 0; i < names.length; i++) {
      const name = scalar(names[i]);
      // A long key needs YAML's long form.
      document += name.length < 256 ? `    ${name}: ` : `    ? ${name}\n    : `;
      document += block(this.files.get(names[i]), "      ");
    }
    return document;
  }
}

let generate: (input: Input, files: Files) => void = (_input: Input, _files: Files): void => {
  throw new Error("no package: call definePackage");
};
let description = "";

/**
 * Makes the function the module's package, at the top level of its file.
 *
 * The description is the YAML of the MistPackage after `apiVersion` and `kind`, with `metadata`, which has a `name`.
 */
export function definePackage(f: (input: Input, files: Files) => void, descriptionYaml: string): void {
  generate = f;
  description = header("MistPackage") + descriptionYaml;
}

/** Returns a YAML scalar on one line that every reader of YAML takes for this string, in quotes if it needs them. */
export function scalar(text: string): string {
  return isPlain(text) ? text : quote(text);
}

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(file: i32, texts: usize, count: i32, written: usize): i32;

/** Writes a line to the host's log. */
export function log(line: string): void {
  const bytes = String.UTF8.encode(line + "\n", false, String.UTF8.ErrorMode.REPLACE);
  store<usize>(logged, changetype<usize>(bytes));
  store<usize>(logged, bytes.byteLength, 4);
  fd_write(2, logged, 1, logged + 8); // a log that is full is no reason to fail
}
const logged = memory.data(12);

// ------------------------------------------------------------------------------------------------------------ exports

// What the host has is outside of what the garbage collector manages.

/** Allocates a block and sets a fat pointer, two numbers that the host reads, to it. */
function share(pointer: usize, text: string): usize {
  const length = String.UTF8.byteLength(text);
  const address = heap.alloc(length);
  // Halves of characters are replaced: the host takes only UTF-8.
  String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, address, false, String.UTF8.ErrorMode.REPLACE);
  store<usize>(pointer, address);
  store<usize>(pointer, length, 4);
  return pointer;
}

const info = memory.data(8);
const output = memory.data(8);

export function __mistletoe_info(): usize {
  return load<usize>(info) ? info : share(info, description);
}

export function __mistletoe_alloc(length: usize): usize {
  // The allocator throws if the length is above its maximum, and traps if the memory cannot grow.
  return length > BLOCK_MAXSIZE ? 0 : heap.alloc(length);
}

export function __mistletoe_dealloc(block: usize, _length: usize): void {
  heap.free(block);
}

export function __mistletoe_generate(address: usize, length: usize): usize {
  const files = new Files();
  generate(new Input(String.UTF8.decodeUnsafe(address, length), files), files);
  return share(output, files.toString());
}

/** A host reads here what a call that trapped has to say. */
// @ts-ignore: decorator
@lazy export const __mistletoe_panic: usize = memory.data(8);

// @ts-ignore: decorator
@lazy let panicked = false;

/** Terminates the call: the user sees the message, file and line. The instance cannot be used afterwards. */
export function abort(message: string | null, file: string | null, line: i32, _column: i32): void {
  // The text below takes memory, whose lack is a panic too.
  if (panicked) unreachable();
  panicked = true;
  const text = message === null ? "failed" : message;
  const place = file === null ? "" : ` at ${file.substring(file.lastIndexOf("/") + 1)}:${line}`;
  share(__mistletoe_panic, errStart() + quote(`panicked${place}: ${text}`) + "\n");
  unreachable();
}

// ------------------------------------------------------------------------------------------------------------ writing

function header(kind: string): string {
  return `apiVersion: mistletoe.dev/v1alpha1\nkind: ${kind}\n`;
}

function errStart(): string {
  return header("MistResult") + "data:\n  result: Err\n  message: ";
}

/** Whether the text is a string without quotes, to readers of YAML 1.1 and 1.2. */
function isPlain(text: string): bool {
  if (text == "" || !(isLetter(text.charCodeAt(0)) || text.startsWith("/"))) return false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (!isLetter(c) && !(c >= 0x30 && c <= 0x39) && !"-./_".includes(text.charAt(i))) return false;
  }
  return !["y", "n", "yes", "no", "on", "off", "true", "false", "null"].includes(text.toLowerCase());
}

function isLetter(c: i32): bool {
  return (c | 0x20) >= 0x61 && (c | 0x20) <= 0x7a;
}

/**
 * Whether YAML can hold the UTF-16 unit as it is. Line and paragraph separators and a byte order mark are left out,
 * since readers differ in what they make of them.
 */
function isPrintable(c: i32): bool {
  return (c >= 0x20 && c < 0x7f) || c == 0x09 || (c >= 0xa0 && c != 0x2028 && c != 0x2029 && c != 0xfeff && c < 0xfffe);
}

function quote(text: string): string {
  let quoted = '"', start = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (isPrintable(c) && c != 0x22 && c != 0x5c) continue;
    quoted += text.substring(start, i);
    start = i + 1;
    if (c == 0x0a) quoted += "\\n";
    else if (c == 0x22 || c == 0x5c) quoted += "\\" + text.charAt(i);
    else quoted += "\\u" + c.toString(16).padStart(4, "0");
  }
  return quoted + text.substring(start) + '"';
}

/**
 * Returns a text as a literal block, if it has lines and a block can hold it; as a scalar on one line otherwise. A line
 * end follows.
 */
function block(text: string, indent: string): string {
  // Blanks at the start need an indicator that readers have taken for different things.
  let isBlock = text.includes("\n") && !" \t\n".includes(text.charAt(0));
  for (let i = 0; i < text.length && isBlock; i++) {
    const c = text.charCodeAt(i);
    isBlock = c == 0x0a || isPrintable(c);
  }
  if (!isBlock) return scalar(text) + "\n";
  const ended = text.endsWith("\n");
  const lines = (ended ? text.substring(0, text.length - 1) : text).split("\n");
  for (let i = 0; i < lines.length; i++) if (lines[i] != "") lines[i] = indent + lines[i];
  return (ended ? (text.endsWith("\n\n") ? "|+\n" : "|\n") : "|-\n") + lines.join("\n") + "\n";
}

// ------------------------------------------------------------------------------------------------------------ reading

function isBlank(c: string): bool {
  return c == " " || c == "\t";
}

/** Removes blanks at both ends. `String.trim` would also remove other white space. */
function trim(text: string): string {
  let start = 0, end = text.length;
  while (start < end && isBlank(text.charAt(start))) start++;
  while (start < end && isBlank(text.charAt(end - 1))) end--;
  return text.substring(start, end);
}

/** Whether a trimmed text has no content. */
function isEmpty(text: string): bool {
  return text == "" || text.startsWith("#");
}

function indentOf(line: string): i32 {
  let spaces = 0;
  while (spaces < line.length && line.charCodeAt(spaces) == 0x20) spaces++;
  return spaces;
}

/** A scalar that was read. Without text, it is null, or of a form that is not supported. */
class Scalar {
  supported: bool = true;
  text: string | null = null;
  /** What follows a quoted scalar. */
  rest: string = "";

  constructor(text: string | null = null, rest: string = "") {
    this.text = text;
    this.rest = rest;
  }
}

function unsupported(): Scalar {
  const scalar = new Scalar();
  scalar.supported = false;
  return scalar;
}

/** Returns what follows the key and its colon, if the line has that key. */
function afterKey(line: string, key: string): string | null {
  let rest: string;
  if (line.startsWith('"') || line.startsWith("'")) {
    const quoted = readQuoted(line);
    if (quoted.text != key) return null;
    rest = trim(quoted.rest);
  } else {
    if (!line.startsWith(key)) return null;
    rest = trim(line.substring(key.length));
  }
  if (!rest.startsWith(":") || (rest.length > 1 && !isBlank(rest.charAt(1)))) return null;
  return trim(rest.substring(1));
}

/** Returns the scalar after a key with this indentation; its further lines start at an index. */
function readScalar(value: string, lines: string[], next: i32, indent: i32): Scalar {
  if (value.startsWith("|")) return readLiteral(value, lines, next, indent);
  // What is indented deeper continues the value, as do items of a list without indentation.
  while (next < lines.length && isEmpty(trim(lines[next]))) next++;
  if (next < lines.length) {
    const spaces = indentOf(lines[next]);
    const content = trim(lines[next]);
    if (spaces > indent || (spaces == indent && (content == "-" || content.startsWith("- ")))) return unsupported();
  }
  if (isEmpty(value)) return new Scalar();
  if (value.startsWith('"') || value.startsWith("'")) {
    const quoted = readQuoted(value);
    const ends = quoted.rest == "" || (isBlank(quoted.rest.charAt(0)) && isEmpty(trim(quoted.rest)));
    return ends ? quoted : unsupported();
  }
  if ("[]{}&*!>@`%,".includes(value.charAt(0))) return unsupported();
  let end = 1;
  while (end < value.length && !(value.charAt(end) == "#" && isBlank(value.charAt(end - 1)))) end++;
  const text = trim(value.substring(0, end));
  return new Scalar(["~", "null", "Null", "NULL"].includes(text) ? null : text);
}

/** Reads the quoted scalar at the start. */
function readQuoted(text: string): Scalar {
  const quote = text.charAt(0);
  let out = "", start = 1;
  for (let i = 1; i < text.length; i++) {
    const c = text.charAt(i);
    if (c == "\\" && quote == '"') {
      out += text.substring(start, i);
      const escape = text.charAt(i + 1);
      const known = escape == "" ? -1 : '0abtnvfre "/\\N_LP'.indexOf(escape);
      const digits = escape == "x" ? 2 : escape == "u" ? 4 : escape == "U" ? 8 : 0;
      if (known >= 0) {
        out += "\0\x07\x08\t\n\x0b\x0c\r\x1b \"/\\\x85\xa0\u2028\u2029".charAt(known);
      } else {
        const code = hex(text.substring(i + 2, i + 2 + digits), digits);
        if (code < 0) return unsupported();
        out += String.fromCodePoint(code);
      }
      i += 1 + digits;
      start = i + 1;
    } else if (c == quote) {
      if (quote == "'" && text.charAt(i + 1) == "'") i++; // two mean one
      else return new Scalar(out + text.substring(start, i), text.substring(i + 1));
      out += text.substring(start, i);
      start = i + 1;
    }
  }
  return unsupported();
}

/** Returns the character with this hexadecimal number, or -1 if there is none. */
function hex(text: string, digits: i32): i32 {
  let code = 0;
  if (digits == 0 || text.length != digits) return -1;
  for (let i = 0; i < digits; i++) {
    const digit = "0123456789abcdef".indexOf(text.charAt(i).toLowerCase());
    if (digit < 0 || code > 0x10ffff) return -1;
    code = (code << 4) | digit;
  }
  return code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? -1 : code;
}

/** Reads the literal block below a key with this indentation. */
function readLiteral(value: string, lines: string[], next: i32, parent: i32): Scalar {
  let chomp = "", indent = 0, at = 1;
  for (; at < value.length && !isBlank(value.charAt(at)); at++) {
    const c = value.charAt(at);
    if (c == "-" || c == "+") chomp = c;
    else if (c >= "1" && c <= "9") indent = parent + (value.charCodeAt(at) - 0x30);
    else return unsupported();
  }
  if (!isEmpty(trim(value.substring(at)))) return unsupported();
  const out: string[] = [];
  let blanks = 0;
  // The text after the last line end is not a line.
  for (; next < lines.length && !(next == lines.length - 1 && lines[next] == ""); next++) {
    const spaces = indentOf(lines[next]);
    const blank = spaces == lines[next].length;
    if (!blank && spaces <= parent) break;
    if (!blank && indent == 0) indent = spaces;
    if (blank && (indent == 0 || spaces <= indent)) {
      blanks++;
      continue;
    }
    if (spaces < indent) break;
    for (; blanks > 0; blanks--) out.push("");
    out.push(lines[next].substring(indent));
  }
  let text = out.join("\n");
  if (chomp != "-" && out.length > 0) text += "\n";
  if (chomp == "+") text += "\n".repeat(blanks);
  return new Scalar(text);
}
