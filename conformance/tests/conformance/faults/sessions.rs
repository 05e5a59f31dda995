//! Faults in sessions: what they share, what they keep, and how many there can be.

use std::mem::{replace, take};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use mistletoe::{Error, Operation, Result};

use crate::faulty::{Fault, Guest, HANDED_ON, Opened, RESET, SOUND, Shared, lock};

pub(super) static FAULTS: &[Fault] = &[
    // Sessions.
    Fault {
        name: "keeps-per-session-info",
        ask: |session, input| match input {
            None => kept_answer(session, input),
            _ => session.ask(input),
        },
        ..SOUND
    },
    Fault {
        name: "keeps-per-package-info",
        ask: |session, input| match input {
            None => package_answer(session, input),
            _ => session.ask(input),
        },
        ..SOUND
    },
    Fault { name: "keeps-per-session-answers", ask: kept_answer, ..SOUND },
    Fault { name: "keeps-per-package-answers", ask: package_answer, ..SOUND },
    Fault {
        name: "uses-an-instance-again",
        open: |package| package.open_kept(|_, session| is_free(session) && lock(session).fault().is_none()),
        ..SOUND
    },
    Fault {
        name: "uses-an-instance-again-with-its-globals",
        start: keep_fresh,
        open: |package| package.open_kept(|_, session| is_free(session) && lock(session).fault().is_none()),
        ask: |session, input| {
            RESET.set(take(&mut session.reused));
            let result = session.ask(input);
            RESET.set(false);
            result
        },
        ..SOUND
    },
    Fault {
        name: "uses-an-instance-again-with-its-memory",
        ask: |session, input| {
            HANDED_ON.with(|memory| *memory.borrow_mut() = Some(session.package.memory.clone()));
            let result = session.ask(input);
            HANDED_ON.with(|memory| memory.borrow_mut().take());
            result
        },
        call: |guest, step, params| {
            let memory = HANDED_ON.with(|memory| memory.borrow().clone());
            let Some(memory) = memory else { return guest.call(step, params) };
            if !replace(&mut guest.pending, true) {
                for (to, from) in guest.memory_mut().iter_mut().zip(&*lock(&memory)) {
                    *to = *from;
                }
            }
            let result = guest.call(step, params);
            if let Some(copy) = guest.copy() {
                *lock(&memory) = copy;
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "shares-an-instance-between-sessions",
        open: |package| {
            lock(&package.sessions).retain(|(_, session)| !is_free(session));
            package.open_kept(|_, _| true)
        },
        ..SOUND
    },
    Fault {
        name: "shares-an-instance-between-threads",
        open: |package| {
            lock(&package.sessions).retain(|(_, session)| !is_free(session));
            package.open_kept(|by, _| by != thread::current().id())
        },
        ..SOUND
    },
    Fault {
        name: "opens-one-session-at-a-time",
        open: |package| {
            let opened = package.open()?;
            let mut sessions = lock(&package.sessions);
            sessions.retain(|(_, session)| !is_free(session));
            if !sessions.is_empty() {
                return Err(Error::engine(Operation::Instantiate, "another session is open"));
            }
            sessions.push((thread::current().id(), opened.session.clone()));
            Ok(opened)
        },
        ..SOUND
    },
    Fault {
        name: "opens-sessions-on-one-thread-only",
        open: |package| {
            let opened = package.open()?;
            let id = thread::current().id();
            let mut sessions = lock(&package.sessions);
            match sessions.first() {
                Some((first, _)) if *first != id => {
                    Err(Error::engine(Operation::Instantiate, "another thread's package"))
                }
                Some(_) => Ok(opened),
                None => {
                    sessions.push((id, opened.session.clone()));
                    Ok(opened)
                }
            }
        },
        ..SOUND
    },
    Fault {
        name: "opens-100-sessions-only",
        open: |package| match package.opened.load(Relaxed) {
            ..100 => package.open(),
            _ => Err(Error::engine(Operation::Instantiate, "no place is left for an instance")),
        },
        ..SOUND
    },
    Fault {
        name: "opens-a-session-for-every-call",
        ask: |session, input| {
            session.session = session.package.open()?.session;
            session.ask(input)
        },
        ..SOUND
    },
    Fault {
        name: "answers-1000-calls-only",
        ask: |session, input| {
            let mut asked = lock(&session.package.asked);
            *asked += 1;
            if *asked > 1000 {
                return Err(Error::engine(Operation::Call, "no fuel is left"));
            }
            drop(asked);
            session.ask(input)
        },
        ..SOUND
    },
];

fn keep_fresh(guest: &mut Guest) -> Result<()> {
    guest.fresh = guest.copy().unwrap_or_default();
    Ok(())
}

fn kept_answer(session: &mut Opened, input: Option<&str>) -> Result<String> {
    let question = input.map(str::to_owned);
    if let Some(answer) = session.answers.get(&question) {
        return Ok(answer.clone());
    }
    let answer = session.ask(input)?;
    session.answers.insert(question, answer.clone());
    Ok(answer)
}

fn package_answer(session: &mut Opened, input: Option<&str>) -> Result<String> {
    let question = input.map(str::to_owned);
    let kept = lock(&session.package.answers).get(&question).cloned();
    if let Some(answer) = kept {
        return Ok(answer);
    }
    let answer = session.ask(input)?;
    lock(&session.package.answers).insert(question, answer.clone());
    Ok(answer)
}

/// Returns whether a kept session is not in use.
fn is_free(session: &Shared) -> bool {
    Arc::strong_count(session) == 1
}
