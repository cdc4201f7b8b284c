use super::*;
use natssh_wire::exec::{ExecRequest, Terminals};
use natssh_wire::ssh_words::Invocation;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// A home, and an ssh that prints what `answer` holds and notes each call.
struct World {
    folder: tempfile::TempDir,
    lookup: Arc<Lookup>,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap(), lookup: Arc::default() };
        fs::create_dir_all(world.path("bin")).unwrap();
        fs::create_dir_all(world.path(".ssh")).unwrap();
        let at = world.folder.path().display();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *ControlPath*) echo 'controlpath {at}/alice';; *) echo x >> {at}/calls; cat {at}/answer;; esac\n"
        );
        fs::write(world.path("bin/ssh"), script).unwrap();
        fs::set_permissions(world.path("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        world.answers("port 22\n");
        world.config("Host *");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn answers(&self, text: &str) {
        fs::write(self.path("answer"), text).unwrap();
    }

    /// Writes the user's file, some time ago.
    fn config(&self, text: &str) {
        fs::write(self.path(".ssh/config"), text).unwrap();
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.path("calls")).unwrap_or_default().lines().count()
    }

    async fn ask(&self, words: &[&str], more: &[(&str, &str)]) -> Result<Found, NotFound> {
        let words: Vec<Word> = words.iter().map(|word| Word::from(*word)).collect();
        let call = Call::of(&Invocation::parse(&words).unwrap(), Terminals::default()).unwrap();
        let variable = |(name, value): &(&str, &str)| (Word::from(*name), Word::from(*value));
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut environment: Vec<_> = more.iter().map(variable).collect();
        environment.push(("PATH".into(), path.as_str().into()));
        let request = ExecRequest { words, directory: "/".into(), environment, ..ExecRequest::default() };
        self.lookup.settings(&call, &Around::of(&Arc::new(request))).await
    }

    /// Waits until files count as written long ago.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(3100)).await;
    }
}

#[tokio::test]
async fn an_answer_is_kept_until_something_that_it_was_made_of_changes() {
    let world = World::new();
    world.config("Host *\n  User ${WHO}\n");
    world.settle().await;
    for _ in 0..3 {
        world.ask(&["web", "true"], &[]).await.unwrap();
    }
    assert_eq!(world.calls(), 1);
    for (words, more, calls) in [
        (&["web", "uptime"][..], &[][..], 1),
        (&["web"], &[], 2),
        (&["-l", "x", "web", "true"], &[], 3),
        (&["web", "true"], &[("SSH_AUTH_SOCK", "/a")], 4),
        (&["web", "true"], &[("UNRELATED", "1")], 4),
        (&["web", "true"], &[("WHO", "me")], 5),
    ] {
        world.ask(words, more).await.unwrap();
        assert_eq!(world.calls(), calls, "{words:?} {more:?}");
    }
    world.config("Host web");
    world.ask(&["web", "true"], &[]).await.unwrap();
    world.ask(&["web", "true"], &[]).await.unwrap();
    assert_eq!(world.calls(), 7, "what was just written is not trusted to show its next change");
}

#[tokio::test]
async fn what_asks_the_world_is_asked_each_time() {
    let world = World::new();
    world.config("Match exec true");
    world.settle().await;
    world.ask(&["web"], &[]).await.unwrap();
    world.ask(&["web"], &[]).await.unwrap();
    assert_eq!(world.calls(), 2);
    let world = World::new();
    world.answers("canonicalizehostname true\n");
    world.settle().await;
    world.ask(&["web"], &[]).await.unwrap();
    world.ask(&["web"], &[]).await.unwrap();
    assert_eq!(world.calls(), 2);
}

#[tokio::test]
async fn many_callers_with_one_question_ask_once_or_a_few_times() {
    let world = World::new();
    world.settle().await;
    let asks = (0..50).map(|_| world.ask(&["web", "true"], &[]));
    let answers = join_all(asks).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(world.calls() <= AT_A_TIME, "{}", world.calls());
}

async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    use std::pin::pin;
    use std::task::Poll;
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    let all = std::future::poll_fn(move |context| {
        for (future, done) in futures.iter_mut().filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        match futures.iter().all(|(_, done)| done.is_some()) {
            true => Poll::Ready(futures.iter_mut().filter_map(|(_, done)| done.take()).collect()),
            false => Poll::Pending,
        }
    });
    pin!(all).await
}

#[tokio::test]
async fn nobody_can_print_lines_in_ssh_s_name() {
    let world = World::new();
    let smuggled = "x\nstricthostkeychecking false";
    assert!(matches!(
        world.ask(&[&format!("-oTag={smuggled}"), "web"], &[]).await,
        Err(NotFound::Unclear(_))
    ));
    world.config("Host *\n  UserKnownHostsFile ${KNOWN}\n");
    assert!(matches!(world.ask(&["web"], &[("KNOWN", smuggled)]).await, Err(NotFound::Unclear(_))));
    assert!(matches!(
        world.ask(&["-oControlPath=${KNOWN}", "web"], &[("KNOWN", smuggled)]).await,
        Err(NotFound::Unclear(_))
    ));
    assert_eq!(world.calls(), 0);
}

#[tokio::test]
async fn what_ssh_says_is_handed_on_and_never_kept() {
    let world = World::new();
    fs::write(world.path("bin/ssh"), "#!/bin/sh\necho 'controlpath /home/alice'\ncase $* in *web*) echo careful >&2;; *bad*) echo no >&2; exit 255;; esac\n").unwrap();
    world.settle().await;
    assert_eq!(world.ask(&["web"], &[]).await.unwrap().complaint.as_deref(), Some("careful"));
    assert_eq!(world.ask(&["web"], &[]).await.unwrap().complaint.as_deref(), Some("careful"));
    let refused = world.ask(&["bad"], &[]).await;
    assert!(matches!(&refused, Err(NotFound::Refused(words)) if words == "no"), "{refused:?}");
}

#[tokio::test]
async fn without_ssh_it_is_said() {
    let world = World::new();
    let named = world.ask(&["web"], &[("NATSSH_REAL_SSH", "/nowhere/ssh")]).await;
    assert!(matches!(&named, Err(NotFound::NoSsh(failure)) if failure.hint.is_some()), "{named:?}");
}
