// A WASI command in C: a module with a `main`, which the host runs once, with arguments, an environment, standard
// streams and a directory, `/data`, if it grants one. It prints what it was given and calls one function of WASI
// (preview 1) after the other, with the same output as `command-go`: the results, and for errors WASI's error numbers.
//
// `command.expected.txt` is what it writes to standard output when it runs
//
// - with the arguments `command`, `--flag`, `two words` and the empty one,
// - with the environment `LANG=C`, `EMPTY=`, `GREETING=hello there` and `EXIT=3`, in this order,
// - with `command.stdin.txt` on standard input,
// - and with a directory as `/data` that contains `greeting.txt`, which is "Hello from the host.\n", and a directory
//   `notes` with an empty file `a.txt` in it. The program leaves it unchanged in the end. A file `secret` lies beside
//   the directory, out of reach.
//
// It exits with the status in EXIT, or 0.
//
// Build it from this directory (Debian: apt-get install clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32):
//
//     clang-14 --target=wasm32-wasi -O2 -Wl,--strip-all -o ../command-c.wasm command.c
//
// or, from any directory of the project, with `cargo xtask packages --only command-c`.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void print_environment(void) {
    size_t count = 0;
    while (environ && environ[count]) count++;
    if (count > 0) qsort(environ, count, sizeof *environ, by_text);
    for (size_t i = 0; i < count; i++) printf("env %s\n", environ[i]);
}

static void copy_input(void) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) >= 0) {
        line[strcspn(line, "\n")] = 0;
        for (char *c = line; *c; c++) // only ASCII: other letters take more than a byte, and stay
            if (*c >= 'a' && *c <= 'z') *c -= 'a' - 'A';
        printf("stdin %s\n", line);
    }
    free(line);
}

// Prints the result of a step, and returns whether it succeeded.
static bool report(const char *step, bool ok) {
    if (ok) printf("%s: ok\n", step);
    else printf("%s: error %d\n", step, errno);
    return ok;
}

// Prints the result of a step that has to fail. The reason depends on what refuses it first.
static void report_refused(const char *step, bool ok) { printf("%s: %s\n", step, ok ? "NOT REFUSED" : "refused"); }

static void list(const char *folder) {
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    if (!report(folder, count >= 0)) return;
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        char path[512];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            // Neither is an entry of its own.
        } else if (lstat(path, &status) != 0) report(path, false);
        else if (S_ISDIR(status.st_mode)) printf("  folder %s\n", name);
        else if (S_ISLNK(status.st_mode)) printf("  link %s\n", name);
        else printf("  file %s, %lld bytes\n", name, (long long)status.st_size);
        free(entries[i]);
    }
    free(entries);
}

static void print_file(const char *step, const char *path) {
    int file = open(path, O_RDONLY);
    if (!report(step, file >= 0)) return;
    char text[512];
    ssize_t length = read(file, text, sizeof text);
    for (ssize_t i = 0; i < length; i++) {
        if (i == 0 || text[i - 1] == '\n') fputs("  ", stdout);
        putchar(text[i]);
    }
    close(file);
}

static void append(const char *step, const char *path, int flags, const char *text) {
    int file = open(path, O_WRONLY | flags, 0644);
    if (!report(step, file >= 0)) return;
    if (write(file, text, strlen(text)) != (ssize_t)strlen(text)) report("write", false);
    close(file);
}

// Reads and writes in the middle of a file, at positions that it seeks to.
static void seek(const char *path) {
    int file = open(path, O_RDWR);
    if (!report("open to seek", file >= 0)) return;
    char word[7] = "";
    report("seek to 6", lseek(file, 6, SEEK_SET) == 6);
    report("write there", write(file, "LINE", 4) == 4);
    report("seek 9 back", lseek(file, -9, SEEK_CUR) == 1);
    report("read 6 there", read(file, word, 6) == 6);
    printf("  %s\n", word);
    printf("  the end is at %lld\n", (long long)lseek(file, 0, SEEK_END));
    report("seek to before the start", lseek(file, -1, SEEK_SET) >= 0);
    close(file);
}

static void print_status(const char *step, const char *path) {
    struct stat status;
    if (!report(step, stat(path, &status) == 0)) return;
    if (S_ISDIR(status.st_mode)) puts("  a folder");
    else printf("  a file, %lld bytes\n", (long long)status.st_size);
}

static void work(void) {
    print_file("read greeting.txt", "/data/greeting.txt");

    append("create out.txt", "/data/out.txt", O_CREAT | O_EXCL, "first line\n");
    append("create it again", "/data/out.txt", O_CREAT | O_EXCL, "");
    append("append to out.txt", "/data/out.txt", O_APPEND, "second line\n");
    print_file("read out.txt", "/data/out.txt");
    seek("/data/out.txt");
    print_file("read out.txt", "/data/out.txt");
    report("truncate out.txt to 10", truncate("/data/out.txt", 10) == 0);
    report("rename it to moved.txt", rename("/data/out.txt", "/data/moved.txt") == 0);
    print_status("stat out.txt", "/data/out.txt");
    print_status("stat moved.txt", "/data/moved.txt");

    report("make folder", mkdir("/data/folder", 0755) == 0);
    report("make it again", mkdir("/data/folder", 0755) == 0);
    print_status("stat folder", "/data/folder");
    append("create folder/inner.txt", "/data/folder/inner.txt", O_CREAT, "inner\n");
    report("remove folder", rmdir("/data/folder") == 0);

    report("link to moved.txt", symlink("moved.txt", "/data/link") == 0);
    char target[512];
    ssize_t length = readlink("/data/link", target, sizeof target);
    if (report("read the link", length >= 0)) printf("  %.*s\n", (int)length, target);
    print_status("stat what it links to", "/data/link");
    list("/data");

    report_refused("open /etc/passwd", open("/etc/passwd", O_RDONLY) >= 0);
    report_refused("open /data/../secret", open("/data/../secret", O_RDONLY) >= 0);
    report("link to ../secret", symlink("../secret", "/data/escape") == 0);
    report_refused("open it", open("/data/escape", O_RDONLY) >= 0);

    report("remove escape", unlink("/data/escape") == 0);
    report("remove link", unlink("/data/link") == 0);
    report("remove moved.txt", unlink("/data/moved.txt") == 0);
    report("remove it again", unlink("/data/moved.txt") == 0);
    report("remove folder/inner.txt", unlink("/data/folder/inner.txt") == 0);
    report("remove folder", rmdir("/data/folder") == 0);
    list("/data");
}

int main(int count, char **arguments) {
    for (int i = 0; i < count; i++) printf("arg %d %s\n", i, arguments[i]);
    print_environment();
    copy_input();

    struct stat status;
    if (stat("/data", &status) != 0) puts("no /data");
    else {
        list("/data");
        work();
    }

    fputs("command: done\n", stderr);
    const char *exit_status = getenv("EXIT");
    return exit_status ? atoi(exit_status) : 0;
}
