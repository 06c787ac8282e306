//! The program behind the functions of checks, without a pilot around it: for tests, which cannot wait for a whole
//! pilot to be built. The pilot has the same as `sailplane gconfig`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words = validation::custom::gconfig::words_of_process();
    let words = words.get(1..).unwrap_or_default();
    let status =
        validation::custom::gconfig::run(words, &mut std::io::stdout(), &mut std::io::stderr());
    ExitCode::from(status)
}
