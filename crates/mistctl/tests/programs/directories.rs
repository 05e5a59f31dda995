//! Files and directories: what is granted, and what is not.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::guests::{BADF, CREATE, NOTCAPABLE, NOTSUP, READ, TRUNCATE, WRITE, calling, opening, print, program};
use crate::support::{Scratch, backends, command, mistctl, text};
use crate::{all_bytes, ended, report, run_on};

/// Prints of each granted directory its name, and its file `f`.
fn surveying() -> String {
    program(
        "\nf",
        "(local $fd i32)
        (local.set $fd (i32.const 3))
        (loop $more
          (if (i32.eqz (call $fd_prestat_get (local.get $fd) (i32.const 1016)))
            (then
              (drop (call $fd_prestat_dir_name (local.get $fd) (i32.const 65536) (i32.load (i32.const 1020))))
              (call $print (i32.const 1) (i32.const 65536) (i32.load (i32.const 1020)))
              (call $print (i32.const 1) (i32.const 2048) (i32.const 1))
              (if (call $open (local.get $fd) (i32.const 2049) (i32.const 1) (i32.const 0) (i64.const 2))
                (then (unreachable)))
              (call $copy (i32.load (i32.const 1012)))
              (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
              (br $more))))",
    )
}

#[test]
fn directories_are_granted_under_their_own_names_or_others() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", surveying());
    for name in ["one", "two"] {
        fs::create_dir(scratch.path(name)).expect("a folder");
        fs::write(scratch.path(name).join("f"), format!("the file in {name}\n")).expect("written");
    }
    let absolute = scratch.path("two").display().to_string();
    let renamed = format!("{absolute}::/srv/data");
    let own = format!("{absolute}\nthe file in two\n");
    for backend in backends() {
        for (directories, expected) in [
            (&[][..], ""),
            (&["one"], "one\nthe file in one\n"),
            (&[&absolute], &own),
            (&[&renamed], "/srv/data\nthe file in two\n"),
            (
                &["two::/two:ro", "one:ro", "one::."],
                "/two\nthe file in two\none\nthe file in one\n.\nthe file in one\n",
            ),
        ] {
            let mut command = command(&["run", &module, "--backend", &backend]);
            for directory in directories {
                command.args(["--dir", directory]);
            }
            let output = command.current_dir(&scratch.0).output().expect("mistctl starts");
            assert_eq!(ended(&output), (expected, "", Some(0)), "{directories:?} on {backend}");
        }
    }
}

#[test]
fn a_program_writes_below_a_directory() {
    let scratch = Scratch::new();
    let start = format!(
        "(if (call $open (i32.const 3) (i32.const 2048) (i32.const 1) (i32.const {CREATE}) (i64.const {WRITE}))
          (then (unreachable)))
        (call $print (i32.load (i32.const 1012)) (i32.const 2050) (i32.const 256))
        (if (call $path_create_directory (i32.const 3) (i32.const 2049) (i32.const 1)) (then (unreachable)))"
    );
    let module = scratch.file("p.wat", program([b"fd", &all_bytes()[..]].concat(), &start));
    for backend in backends() {
        let data = scratch.path(&backend);
        fs::create_dir(&data).expect("a folder");
        let output = run_on(&backend, &module, &["--dir", &data.display().to_string()]);
        assert_eq!(ended(&output), ("", "", Some(0)), "{backend}");
        assert_eq!(fs::read(data.join("f")).expect("read"), all_bytes(), "{backend}");
        assert!(data.join("d").is_dir(), "{backend}");
    }
}

#[test]
fn a_directory_granted_for_reading_is_read_and_not_changed() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("f"), "as it was").expect("written");
    let path = "(i32.const 3) (i32.const 2048) (i32.const 1)";
    let reading = program(
        "f",
        &format!(
            "(if (call $open {path} (i32.const 0) (i64.const {READ})) (then (unreachable)))
        (call $copy (i32.load (i32.const 1012)))"
        ),
    );
    let reading = scratch.file("reading.wat", reading);
    let changing = [
        ("path_open: f", opening("f", 0, WRITE)),
        ("path_open: f", opening("f", 0, READ | WRITE)),
        ("path_open: f", opening("f", TRUNCATE, READ)),
        ("path_open: g", opening("g", CREATE, READ)),
        ("path_create_directory: g", calling("g", &format!("(call $path_create_directory {path})"))),
        ("path_unlink_file: f", calling("f", &format!("(call $path_unlink_file {path})"))),
    ];
    for (index, (call, module)) in changing.iter().enumerate() {
        let module = scratch.file("p.wat", module);
        for backend in backends() {
            let grant = format!("{}::/data:ro", data.display());
            let output = run_on(&backend, &reading, &["--dir", &grant]);
            assert_eq!(ended(&output), ("as it was", "", Some(0)), "{backend}");
            let output = run_on(&backend, &module, &["--dir", &grant]);
            let denied = format!("denied: {call}: not granted\n");
            assert_eq!(ended(&output), ("", &*denied, Some(NOTCAPABLE)), "{index} on {backend}");
            assert_eq!(fs::read(data.join("f")).expect("read"), b"as it was", "{index} on {backend}");
            assert!(!data.join("g").exists(), "{index} on {backend}");
        }
        // The same is no trouble where it was granted, so that it is the grant that decides.
        let copy = scratch.path(&format!("copy{index}"));
        fs::create_dir(&copy).expect("a folder");
        fs::copy(data.join("f"), copy.join("f")).expect("copied");
        let output = mistctl(&["run", &module, "--dir", &copy.display().to_string()]);
        assert_eq!(ended(&output), ("", "", Some(0)), "{index}");
    }
}

#[test]
fn no_path_leads_out_of_a_directory() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("data/sub")).expect("folders");
    fs::write(scratch.path("data/inside"), "").expect("written");
    let secret = scratch.file("secret", "secret");
    symlink("../secret", scratch.path("data/link")).expect("a link");
    let grant = format!("{}::/data", scratch.path("data").display());
    for (path, shown) in [
        ("../secret", "../secret"),
        ("sub/../../secret", "sub/../../secret"),
        ("link", "link"),
        (&secret, &secret),
        // A path is no terminal's command, and no line of its own.
        ("../\x1b[31m\nerror: no", "../\\u{1b}[31m\\nerror: no"),
    ] {
        let module = scratch.file("p.wat", opening(path, 0, READ));
        let denied = format!("denied: path_open: {shown}: not granted\n");
        for backend in backends() {
            let output = run_on(&backend, &module, &["--dir", &grant]);
            assert_eq!(ended(&output), ("", &*denied, Some(NOTCAPABLE)), "{path} on {backend}");
        }
    }
    let module = scratch.file("p.wat", opening("sub/../inside", 0, READ));
    assert_eq!(ended(&mistctl(&["run", &module, "--dir", &grant])), ("", "", Some(0)));
}

#[test]
fn a_pipe_in_a_directory_is_not_opened() {
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    // Opening it for reading would let this go on.
    let mut writer =
        std::process::Command::new("sh").args(["-c", "echo precious > \"$0\""]).arg(&pipe).spawn().expect("sh");
    let grant = format!("{}::/:ro", scratch.0.path().display());
    let module = scratch.file("program.wat", opening("pipe", 0, READ));
    let output = mistctl(&["run", &module, "--dir", &grant]);
    assert_eq!(ended(&output), ("", "denied: path_open: pipe: not granted\n", Some(NOTSUP)));
    // Not for ever: there is nobody left to wait for, if the writer has written already.
    let kept = std::process::Command::new("timeout").arg("10").arg("cat").arg(&pipe).output().expect("timeout");
    assert_eq!(text(&kept.stdout), "precious\n");
    assert!(writer.wait().expect("the writer ends").success());
}

#[test]
fn of_devices_only_those_are_opened_that_give_or_take_bytes() {
    let scratch = Scratch::new();
    for (device, denied, code) in [
        ("null", "", 0),
        ("zero", "", 0),
        ("urandom", "", 0),
        ("full", "denied: path_open: full: not granted\n", NOTSUP),
        ("tty", "denied: path_open: tty: not granted\n", NOTSUP),
    ] {
        let module = scratch.file("program.wat", opening(device, 0, READ | WRITE));
        let output = mistctl(&["run", &module, "--dir", "/dev::/dev"]);
        assert_eq!(ended(&output), ("", denied, Some(code)), "{device}");
    }
}

#[test]
fn without_a_directory_there_is_no_descriptor_to_open_from() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", opening("f", 0, READ));
    for backend in backends() {
        assert_eq!(ended(&run_on(&backend, &module, &[])), ("", "", Some(BADF)), "{backend}");
    }
}

#[test]
fn what_cannot_be_granted_is_status_3_and_named_and_the_program_does_not_run() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", program("ran", &print(1, 2048, 3)));
    let missing = scratch.path("missing").display().to_string();
    for (arguments, file) in [
        (&["--dir", &missing][..], &missing),
        (&["--dir", &format!("{missing}::/data:ro")], &missing),
        // A file is no directory.
        (&["--dir", &module], &module),
        (&["--stdin", &missing], &missing),
    ] {
        let output = command(&["run", &module]).args(arguments).output().expect("mistctl starts");
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)), "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.starts_with(&format!("error: {file} cannot be ")), "{arguments:?}: {message}");
        let mut command = command(&["run", &module, "--error-format", "json"]);
        let report = report(&command.args(arguments).output().expect("mistctl starts"));
        assert_eq!((&report["kind"], &report["file"]), (&json!("file"), &json!(file)), "{arguments:?}");
    }
}
