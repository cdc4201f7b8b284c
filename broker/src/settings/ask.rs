//! Running `ssh -G`: the caller's own ssh, in the caller's folder and environment, for a bounded time.

use natssh_wire::word::Word;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// How long `ssh -G` may take: it reads files, and now and then runs a `Match exec` or asks a name server.
const PATIENCE: Duration = Duration::from_secs(5);
/// No configuration prints more than this.
const OUTPUT: u64 = 1 << 20;

/// What `ssh -G` is run with.
pub(super) struct Question<'q> {
    /// The program.
    pub(super) ssh: &'q Path,
    /// The words behind `-G`, the host among them.
    pub(super) words: &'q [Word],
    /// The folder.
    pub(super) directory: &'q Word,
    /// The whole environment.
    pub(super) environment: &'q [(Word, Word)],
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The settings; none where ssh refuses to go on.
    pub(super) printed: Option<Vec<u8>>,
    /// What ssh has to say to the user: the first line of it.
    pub(super) complaint: Option<String>,
}

/// Asks.
///
/// # Errors
/// The program cannot be run, or took too long.
pub(super) async fn ask(question: Question<'_>) -> io::Result<Answer> {
    let environment = question.environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
    let mut child = Command::new(question.ssh)
        .arg("-G")
        .args(question.words.iter().map(Word::as_os_str))
        .env_clear()
        .envs(environment)
        .current_dir(question.directory.as_os_str())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let (printed, said) = tokio::try_join!(read(stdout), read(stderr))?;
        Ok::<_, io::Error>((child.wait().await?, printed, said))
    };
    let (status, printed, said) = timeout(PATIENCE, run).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let complaint = complaint(&String::from_utf8_lossy(&said));
    Ok(match status.success() {
        true => Answer { printed: Some(printed), complaint },
        false => Answer { printed: None, complaint: complaint.or_else(|| Some(format!("ssh -G: {status}"))) },
    })
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// What ssh says to a person, without what `-v` adds and what it says of the standard input it was given here.
fn complaint(said: &str) -> Option<String> {
    let debug = |line: &str| {
        let level = line.strip_prefix("debug").and_then(|rest| rest.split_once(": "));
        level.is_some_and(|(level, _)| matches!(level, "1" | "2" | "3"))
    };
    let of_interest = said.lines().map(str::trim_end).find(|line| {
        !(line.is_empty()
            || debug(line)
            || line.starts_with("OpenSSH_")
            || line.starts_with("Pseudo-terminal will not be allocated"))
    });
    of_interest.map(crate::text::one_line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_what_ssh_says_to_a_person_is_a_complaint() {
        let said = "OpenSSH_9.2p1, OpenSSL 3.0\r\ndebug1: Reading configuration data x\r\n\
                    Pseudo-terminal will not be allocated because stdin is not a terminal.\r\n";
        assert_eq!(complaint(said), None);
        let bad = "debug1: x\nf: line 3: Bad configuration option: foo\r\nf: terminating\n";
        assert_eq!(complaint(bad).as_deref(), Some("f: line 3: Bad configuration option: foo"));
        assert_eq!(complaint("debug4: x").as_deref(), Some("debug4: x"));
    }

    async fn run(script: &str, environment: &[(Word, Word)]) -> io::Result<Answer> {
        let folder = tempfile::tempdir().unwrap();
        let ssh = folder.path().join("ssh");
        std::fs::write(&ssh, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
        let directory = Word::from(folder.path().as_os_str().to_owned());
        let words = [Word::from("-T"), Word::from("web 3")];
        ask(Question { ssh: &ssh, words: &words, directory: &directory, environment }).await
    }

    #[tokio::test]
    async fn ssh_gets_words_folder_and_environment_and_nothing_else() {
        let environment = [(Word::from("PATH"), Word::from("/usr/bin:/bin")), ("A".into(), "b c".into())];
        let answer = run(
            "for w in \"$@\"; do echo \"[$w]\"; done; ls; env | grep ^A; echo ${HOME-none}; cat",
            &environment,
        );
        let answer = answer.await.unwrap();
        assert_eq!(answer.complaint, None);
        assert_eq!(
            String::from_utf8(answer.printed.unwrap()).unwrap(),
            "[-G]\n[-T]\n[web 3]\nssh\nA=b c\nnone\n"
        );
    }

    #[tokio::test]
    async fn a_status_without_words_is_a_complaint_too() {
        let refused = run("exit 255", &[]).await.unwrap();
        assert_eq!(refused, Answer { printed: None, complaint: Some("ssh -G: exit status: 255".into()) });
        let warned = run("echo user web; echo careful >&2", &[]).await.unwrap();
        assert_eq!(warned, Answer { printed: Some(b"user web\n".into()), complaint: Some("careful".into()) });
    }

    #[tokio::test(start_paused = true)]
    async fn ssh_that_hangs_is_given_up_on() {
        let environment = [(Word::from("PATH"), Word::from("/usr/bin:/bin"))];
        let error = run("exec sleep 600", &environment).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
