// A WASI command in Go: the same program as `command-c`, with the same output. `command-c` describes what it does, and
// `command.expected.txt`. The libraries of C and Go use different functions of WASI for some tasks, so the two programs
// test a host on both.
//
// Build it from this directory (Go 1.24 or newer):
//
//	GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags="-s -w" -o command-go.wasm .
//
// or, from any directory of the project, with `cargo xtask packages --only command-go`. The module is too large to be
// committed.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func copyInput() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		upper := strings.Map(func(c rune) rune {
			if 'a' <= c && c <= 'z' { // only ASCII, as in C
				return c - 'a' + 'A'
			}
			return c
		}, lines.Text())
		fmt.Println("stdin", upper)
	}
}

// Prints the result of a step, and returns whether it succeeded.
func report(step string, err error) bool {
	var errno syscall.Errno
	switch {
	case err == nil:
		fmt.Println(step + ": ok")
	case errors.As(err, &errno):
		fmt.Printf("%s: error %d\n", step, int(errno))
	default:
		fmt.Printf("%s: %v\n", step, err)
	}
	return err == nil
}

// Prints the result of a step that has to fail. The reason depends on what refuses it first.
func reportRefused(step string, err error) {
	if err == nil {
		fmt.Println(step + ": NOT REFUSED")
	} else {
		fmt.Println(step + ": refused")
	}
}

func list(folder string) {
	entries, err := os.ReadDir(folder) // sorted by name
	if !report(folder, err) {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		switch {
		case err != nil:
			report(folder+"/"+entry.Name(), err)
		case info.IsDir():
			fmt.Println("  folder", entry.Name())
		case info.Mode()&os.ModeSymlink != 0:
			fmt.Println("  link", entry.Name())
		default:
			fmt.Printf("  file %s, %d bytes\n", entry.Name(), info.Size())
		}
	}
}

func printFile(step, path string) {
	text, err := os.ReadFile(path)
	if report(step, err) {
		for line := range strings.Lines(string(text)) {
			fmt.Print("  ", line)
		}
	}
}

func appendTo(step, path string, flags int, text string) {
	file, err := os.OpenFile(path, os.O_WRONLY|flags, 0o644)
	if !report(step, err) {
		return
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		report("write", err)
	}
}

// Reads and writes in the middle of a file, at positions that it seeks to.
func seek(path string) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if !report("open to seek", err) {
		return
	}
	defer file.Close()
	word := make([]byte, 6)
	_, err = file.Seek(6, io.SeekStart)
	report("seek to 6", err)
	_, err = file.WriteString("LINE")
	report("write there", err)
	_, err = file.Seek(-9, io.SeekCurrent)
	report("seek 9 back", err)
	_, err = io.ReadFull(file, word)
	report("read 6 there", err)
	fmt.Printf("  %s\n", word)
	end, _ := file.Seek(0, io.SeekEnd)
	fmt.Println("  the end is at", end)
	_, err = file.Seek(-1, io.SeekStart)
	report("seek to before the start", err)
}

func printStatus(step, path string) {
	info, err := os.Stat(path)
	if !report(step, err) {
		return
	}
	if info.IsDir() {
		fmt.Println("  a folder")
	} else {
		fmt.Printf("  a file, %d bytes\n", info.Size())
	}
}

func open(path string) error {
	file, err := os.Open(path)
	file.Close()
	return err
}

func work() {
	printFile("read greeting.txt", "/data/greeting.txt")

	appendTo("create out.txt", "/data/out.txt", os.O_CREATE|os.O_EXCL, "first line\n")
	appendTo("create it again", "/data/out.txt", os.O_CREATE|os.O_EXCL, "")
	appendTo("append to out.txt", "/data/out.txt", os.O_APPEND, "second line\n")
	printFile("read out.txt", "/data/out.txt")
	seek("/data/out.txt")
	printFile("read out.txt", "/data/out.txt")
	report("truncate out.txt to 10", os.Truncate("/data/out.txt", 10))
	report("rename it to moved.txt", os.Rename("/data/out.txt", "/data/moved.txt"))
	printStatus("stat out.txt", "/data/out.txt")
	printStatus("stat moved.txt", "/data/moved.txt")

	report("make folder", os.Mkdir("/data/folder", 0o755))
	report("make it again", os.Mkdir("/data/folder", 0o755))
	printStatus("stat folder", "/data/folder")
	appendTo("create folder/inner.txt", "/data/folder/inner.txt", os.O_CREATE, "inner\n")
	report("remove folder", os.Remove("/data/folder"))

	report("link to moved.txt", os.Symlink("moved.txt", "/data/link"))
	target, err := os.Readlink("/data/link")
	if report("read the link", err) {
		fmt.Println(" ", target)
	}
	printStatus("stat what it links to", "/data/link")
	list("/data")

	reportRefused("open /etc/passwd", open("/etc/passwd"))
	reportRefused("open /data/../secret", open("/data/../secret"))
	report("link to ../secret", os.Symlink("../secret", "/data/escape"))
	reportRefused("open it", open("/data/escape"))

	report("remove escape", os.Remove("/data/escape"))
	report("remove link", os.Remove("/data/link"))
	report("remove moved.txt", os.Remove("/data/moved.txt"))
	report("remove it again", os.Remove("/data/moved.txt"))
	report("remove folder/inner.txt", os.Remove("/data/folder/inner.txt"))
	report("remove folder", os.Remove("/data/folder"))
	list("/data")
}

func main() {
	for i, argument := range os.Args {
		fmt.Println("arg", i, argument)
	}
	environment := os.Environ()
	slices.Sort(environment)
	for _, variable := range environment {
		fmt.Println("env", variable)
	}
	copyInput()

	if _, err := os.Stat("/data"); err != nil {
		fmt.Println("no /data")
	} else {
		list("/data")
		work()
	}

	fmt.Fprintln(os.Stderr, "command: done")
	status, _ := strconv.Atoi(os.Getenv("EXIT"))
	os.Exit(status)
}
