//! Every case on every backend that is built in, one named test each.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = match mistletoe_conformance::cases() {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    for name in mistletoe::backends().iter().filter(|info| info.is_enabled()).map(|info| info.name()) {
        for case in &cases {
            let case = case.clone();
            trials.push(Trial::test(format!("{name}::{case}"), move || {
                let backend = mistletoe::backend(name)?;
                case.check(&backend).map(drop).map_err(|failure| failure.into())
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
