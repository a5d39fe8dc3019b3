//! A process that a test started: its output is kept for a failing test, and it ends with the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::eventually;

pub struct Program {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Program {
    /// Starts `command` and keeps its output in `folder`.
    pub fn start(command: &mut Command, folder: &Path) -> Self {
        let path = Path::new(command.get_program());
        let name = path.file_name().expect("a program has a name").to_string_lossy().into_owned();
        let (stdout, stderr) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("the folder is writable"))
            .stderr(File::create(&stderr).expect("the folder is writable"))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, stdout, stderr }
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, async || self.ended()).await
    }

    /// Sends `TERM`, `STOP` or another signal, by process id.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} cannot be signalled", self.name);
    }

    /// Bounds how far into a file it can write, as `SOFT:HARD`: a full disk, made and mended at will.
    pub fn limit_files(&self, bytes: &str) {
        let id = self.child.id().to_string();
        let limited = Command::new("prlimit").args(["--pid", &id, &format!("--fsize={bytes}")]).status();
        assert!(limited.is_ok_and(|status| status.success()), "{} cannot be limited", self.name);
    }

    /// Ends it without a chance to say goodbye.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }
}

/// Runs `command` to its end: its exit code, what it wrote to standard output, and to standard error.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("---- {} wrote\n{}{}", self.name, self.stdout(), self.stderr());
        }
    }
}
