//! `-o dir=`: all files of an answer or none, whatever is mounted below, and whenever the process is killed.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, command, escaped, result, text};

/// A package whose answer has these files.
fn package(scratch: &Scratch, files: &[(&str, &str)]) -> String {
    // JSON's strings are YAML's, too; keys of any length need a question mark.
    let entry = |(name, text): &(&str, &str)| format!("    ? {}\n    : {}\n", json!(name), json!(text));
    let files: String = files.iter().map(entry).collect();
    let answer = result(&format!("  result: Ok\n  files:\n{files}"));
    let fat = (answer.len() as u64) << 32 | 65_536;
    let pages = 2 + answer.len() / 65_536;
    let module = answering("")
        .replace(r#"(memory (export "memory") 1)"#, &format!(r#"(memory (export "memory") {pages})"#))
        .replace(r#"(data (i32.const 64) "")"#, &format!(r#"(data (i32.const 65536) "{}")"#, escaped(&answer)))
        .replace("(i64.const 64)", &format!("(i64.const {fat})"));
    scratch.file("p.wat", module)
}

fn generate(package: &str, root: &Path) -> Command {
    command(&["generate", "x", "-p", package, "-o", &format!("dir={}", root.display())])
}

fn run(package: &str, root: &Path) -> Output {
    generate(package, root).output().expect("mistctl starts")
}

/// A command after this script in a mount namespace of its own; `$0` is the root. `None` where the machine has none.
fn mounted(script: &str, root: &Path, generate: &Command) -> Option<Output> {
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-ec", script]).arg(root);
        command
    };
    if !in_namespace("mount --bind \"$0\" \"$0\"").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user cannot mount anything here");
        return None;
    }
    let mut command = in_namespace(&format!("{script}\nexec \"$@\""));
    Some(command.arg(generate.get_program()).args(generate.get_args()).output().expect("it starts"))
}

/// Everything below a folder with what is in it; folders end in a slash.
fn below(root: &Path) -> Vec<(String, String)> {
    fn list(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                found.push((format!("{name}/"), String::new()));
                list(&entry.path(), &format!("{name}/"), found);
            } else {
                found.push((name, fs::read_to_string(entry.path()).expect("text")));
            }
        }
    }
    let mut found = Vec::new();
    list(root, "", &mut found);
    found.sort();
    found
}

fn names(root: &Path) -> Vec<String> {
    below(root).into_iter().map(|(name, _)| name).collect()
}

const NEW: [(&str, &str); 3] = [("a.yaml", "new a"), ("sub/new/x.yaml", "new x"), ("z.yaml", "new z")];

/// A root with a file that will be replaced, one that will not, and a folder.
fn old(scratch: &Scratch) -> PathBuf {
    let root = scratch.path("out");
    fs::create_dir_all(root.join("sub")).expect("folders");
    fs::create_dir_all(scratch.path("elsewhere")).expect("a folder");
    for (name, text) in [("out/z.yaml", "old z"), ("out/mine", "mine"), ("elsewhere/kept", "kept")] {
        fs::write(scratch.path(name), text).expect("written");
    }
    root
}

#[test]
fn a_tree_across_mount_points_is_written() {
    let scratch = Scratch::new();
    let root = old(&scratch);
    let generate = generate(&package(&scratch, &NEW), &root);
    let Some(output) = mounted("mount --bind \"$0/../elsewhere\" \"$0/sub\"", &root, &generate) else { return };
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    let expected = [("mine", "mine"), ("a.yaml", "new a"), ("sub/", ""), ("z.yaml", "new z")];
    let mut expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
    expected.sort();
    assert_eq!(below(&root), expected);
    assert_eq!(fs::read_to_string(scratch.path("elsewhere/new/x.yaml")).expect("read"), "new x");
    assert_eq!(names(&scratch.path("elsewhere")), ["kept", "new/", "new/x.yaml"]);
}

#[test]
fn nothing_is_written_where_one_folder_cannot_be() {
    let scratch = Scratch::new();
    let root = old(&scratch);
    let before = (below(&root), below(&scratch.path("elsewhere")));
    let generate = generate(&package(&scratch, &NEW), &root);
    let script = "mount --bind \"$0/../elsewhere\" \"$0/sub\"\nmount -o remount,bind,ro \"$0/sub\"";
    let Some(output) = mounted(script, &root, &generate) else { return };
    assert_eq!(output.status.code(), Some(3));
    let expected = format!("error: {}/sub cannot be written\n", root.display());
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    assert_eq!((below(&root), below(&scratch.path("elsewhere"))), before);
}

/// The last of the files is a mount point itself, which nothing can be moved to: the others are in their places by
/// then.
#[test]
fn what_was_placed_is_taken_back_where_the_last_file_cannot_be() {
    let scratch = Scratch::new();
    let root = old(&scratch);
    fs::write(root.join("zz"), "old zz").expect("written");
    let before = below(&root);
    let files = [&NEW[..], &[("zz", "new zz")]].concat();
    let generate = generate(&package(&scratch, &files), &root);
    let Some(output) = mounted("mount --bind \"$0/../elsewhere/kept\" \"$0/zz\"", &root, &generate) else { return };
    assert_eq!(output.status.code(), Some(3));
    let expected = format!("error: {}/zz cannot be written\n", root.display());
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    assert_eq!(below(&root), before);
    assert_eq!(fs::read_to_string(scratch.path("elsewhere/kept")).expect("read"), "kept");
}

#[test]
fn a_folder_without_permission_leaves_nothing_either() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let root = old(&scratch);
    let package = package(&scratch, &NEW);
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o555)).expect("set");
    if File::create(root.join("sub/probe")).is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let before = below(&root);
    assert_eq!(run(&package, &root).status.code(), Some(3));
    assert_eq!(below(&root), before);
}

#[test]
fn no_name_of_a_package_is_that_of_the_staging_folder() {
    let scratch = Scratch::new();
    let root = scratch.path("out");
    // What a staging folder of the process 1 was called once.
    let files = [("a.yaml", "a"), (".mistctl-1-0/x.yaml", "x"), ("b.yaml", "b")];
    let generate = generate(&package(&scratch, &files), &root);
    let mut first = Command::new("unshare");
    first.args(["-pf", "--mount-proc"]).arg(generate.get_program()).args(generate.get_args());
    let output = match first.output() {
        Ok(output) if !text(&output.stderr).starts_with("unshare: ") => output,
        _ => return eprintln!("skipped: this user cannot make a process 1"),
    };
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    assert_eq!(names(&root), [".mistctl-1-0/", ".mistctl-1-0/x.yaml", "a.yaml", "b.yaml"]);
    // Those of today cannot be known, and are refused all the same: the next run takes them for its own.
    let name = format!("sub/.MISTCTL-{}.tmp/lock", "0".repeat(32));
    let output = run(&package(&scratch, &[("c.yaml", "c"), (&name, "x")]), &root);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("staging directories"), "{}", text(&output.stderr));
    assert!(!root.join("c.yaml").exists());
}

#[test]
fn a_root_that_was_not_there_is_not_there_after_a_failure() {
    let scratch = Scratch::new();
    let long = "x".repeat(300);
    let output = run(&package(&scratch, &[("a.yaml", "a"), (&format!("sub/{long}"), "x")]), &scratch.path("new/out"));
    assert_eq!(output.status.code(), Some(3));
    assert!(!scratch.path("new").exists());
}

/// Runs mistctl so that it is killed by the system when it writes the second file, as it would be by `kill -9`: a
/// signal that needs no clock.
fn killed(package: &str, root: &Path) {
    let generate = generate(package, root);
    // In blocks of 512 bytes or a kilobyte, whichever shell this is.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -c 0; ulimit -f 8; exec \"$0\" \"$@\""]);
    let output = limited.arg(generate.get_program()).args(generate.get_args()).output().expect("sh starts");
    assert!(output.status.signal().is_some(), "{:?}", output.status);
}

#[test]
fn what_a_killed_run_leaves_behind_is_taken_away_by_the_next_and_nothing_else() {
    let scratch = Scratch::new();
    let root = old(&scratch);
    let before = names(&root);
    let large = "x".repeat(100_000);
    let bad = package(&scratch, &[("a.yaml", "a"), ("sub/new/b.yaml", &large), ("z.yaml", "z")]);
    killed(&bad, &root);
    let left: Vec<_> = names(&root).into_iter().filter(|name| !before.contains(name)).collect();
    // The staging folder of the root with a file in it, that of `sub`, and nothing in its place.
    let staging = left.first().expect("a staging folder").trim_end_matches('/').to_owned();
    assert!(staging.starts_with(".mistctl-") && left.contains(&format!("{staging}/0")), "{left:?}");
    assert!(left.contains(&format!("sub/{staging}/")), "{left:?}");
    assert!(left.iter().all(|name| name.contains(".mistctl-")), "{left:?}");
    assert_eq!(fs::read_to_string(root.join("z.yaml")).expect("read"), "old z");

    // A user's own things of such names: without a lock, no folder, not below a root, of another form.
    let digits = "0".repeat(32);
    let mine = [
        format!(".mistctl-{digits}.tmp/mine"),
        format!(".mistctl-{}.tmp", "1".repeat(32)),
        format!("sub/.mistctl-{digits}.tmp/lock"),
        ".mistctl-1-0/lock".to_owned(),
        ".mistctl-x.tmp/lock".to_owned(),
    ];
    for name in &mine {
        fs::create_dir_all(root.join(name).parent().expect("a folder")).expect("made");
        fs::write(root.join(name), "mine").expect("written");
    }
    let output = run(&package(&scratch, &NEW), &root);
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    for name in &mine {
        assert_eq!(fs::read_to_string(root.join(name)).expect(name), "mine");
    }
    assert!(!names(&root).iter().any(|name| name.contains(&staging)), "{:?}", names(&root));
    assert_eq!(fs::read_to_string(root.join("z.yaml")).expect("read"), "new z");
}

#[test]
fn what_a_run_that_is_alive_needs_is_left_alone() {
    let scratch = Scratch::new();
    let root = scratch.path("out");
    let staging = root.join(format!(".mistctl-{}.tmp", "a".repeat(32)));
    fs::create_dir_all(&staging).expect("made");
    let lock = File::create(staging.join("lock")).expect("a file");
    lock.lock().expect("locked");
    let package = package(&scratch, &NEW);
    assert_eq!(run(&package, &root).status.code(), Some(0));
    assert!(staging.join("lock").exists());
    drop(lock);
    assert_eq!(run(&package, &root).status.code(), Some(0));
    assert!(!staging.exists());
}

/// A plan that somebody else wrote leads nowhere else.
#[test]
fn a_forged_plan_leads_to_nothing_outside_the_root() {
    let scratch = Scratch::new();
    let root = scratch.path("out");
    let staging = format!(".mistctl-{}.tmp", "b".repeat(32));
    fs::create_dir_all(root.join(&staging)).expect("made");
    fs::create_dir_all(scratch.path("victim").join(&staging)).expect("made");
    std::os::unix::fs::symlink("../victim", root.join("link")).expect("a link");
    for stage in ["../victim", "link", scratch.path("victim").to_str().expect("text")] {
        fs::create_dir_all(root.join(&staging)).expect("made");
        fs::write(root.join(&staging).join("lock"), "").expect("written");
        let plan = json!({"stages": [stage], "folders": [stage], "files": []});
        for name in ["plan", "placing"] {
            fs::write(root.join(&staging).join(name), plan.to_string()).expect("written");
        }
        assert_eq!(run(&package(&scratch, &NEW), &root).status.code(), Some(0));
        assert!(!root.join(&staging).exists(), "{stage}");
        assert!(scratch.path("victim").join(&staging).exists(), "{stage}");
    }
}

#[test]
fn too_many_files_or_folders_are_an_error_before_anything_is_written() {
    let scratch = Scratch::new();
    let root = scratch.path("out");
    let deep = |levels: usize| "d/".repeat(levels);
    let numbered = |count: usize, name: &dyn Fn(usize) -> String| (0..count).map(name).collect::<Vec<_>>();
    let good = package(&scratch, &[(&format!("{}x", deep(64)), "x")]);
    assert_eq!(run(&good, &root).status.code(), Some(0));
    fs::remove_dir_all(&root).expect("removed");
    for (files, problem) in [
        (vec!["a".to_owned(), format!("{}x", deep(65))], "it is in more than 64 directories"),
        (numbered(10_001, &|i| format!("f{i}")), "its output has 10001 files; the limit is 10000"),
        // Few files, very many folders.
        (numbered(200, &|i| format!("{i}/{}x", deep(60))), "its output has more than 10000 directories"),
        // A name of two thousand levels, which once took a second.
        (numbered(50, &|i| format!("{i}/{}x", deep(1_980))), "it is in more than 64 directories"),
    ] {
        let files: Vec<_> = files.iter().map(|name| (name.as_str(), "x")).collect();
        let output = run(&package(&scratch, &files), &root);
        assert_eq!(output.status.code(), Some(3), "{problem}");
        assert!(text(&output.stderr).contains(problem), "{}", text(&output.stderr));
        assert!(!root.exists());
    }
}

#[test]
fn a_refused_name_is_an_error_that_names_the_package_and_is_cut() {
    let scratch = Scratch::new();
    let long = format!("../{}", "\u{1}".repeat(10_000));
    let package = package(&scratch, &[(&long, "x")]);
    let output = run(&package, &scratch.path("out"));
    let expected = format!(r"error: {package}: its file `../\u{{1}}");
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    assert!(text(&output.stderr).len() < 500);
    let output = generate(&package, &scratch.path("out")).args(["--error-format", "json"]).output().expect("it starts");
    let error: Value = serde_json::from_slice(&output.stderr).expect("an object");
    assert_eq!((&error["kind"], &error["file"]), (&"file".into(), &package.as_str().into()));
}

/// Names that differ for the answer and not for the file system: the second may not take the place of the first.
#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let scratch = Scratch::new();
    let root = scratch.path("out");
    let package = package(&scratch, &NEW);
    let runs: io::Result<Vec<_>> = (0..8).map(|_| generate(&package, &root).spawn()).collect();
    for mut run in runs.expect("they start") {
        assert!(run.wait().is_ok_and(|status| status.success()));
    }
    assert_eq!(names(&root), ["a.yaml", "sub/", "sub/new/", "sub/new/x.yaml", "z.yaml"]);
}
