//! What a client of HTTP/2 sends: the first byte says which of two openings it has, the second how its bytes are cut, and the rest
//! is frames. Behind the trunk sit sessions as the HTTP door has them, across from a hub that knows every stream but those of
//! the app `none`.
#![no_main]

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    error::ErrorKind,
    http,
    http2::{
        BranchId, Output, PREFACE, Trunk,
        trunk::{BRANCH_BYTES_MAX, BRANCHES_MAX},
    },
    limits::DoorLimits,
    session::{
        self, Answer, Event, Input, Refusal, Session,
        signal::{Fault, Reply},
    },
    time::Now,
};

/// Settings without a setting (RFC 9113, 6.5).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// How long the machine's client takes between two pieces.
const PAUSE: Duration = Duration::from_millis(3);

fuzz_target!(|input: &[u8]| {
    let [opening, cut, rest @ ..] = input else { return };
    let mut door = Door::new();
    if opening % 2 == 0 {
        door.receive(&[PREFACE.as_slice(), &SETTINGS].concat());
    }
    for piece in rest.chunks(usize::from(*cut) + 1) {
        door.receive(piece);
    }
    door.shut_down();
});

/// A trunk, and what the shard and the hub have of it.
struct Door {
    trunk: Trunk,
    branches: BTreeMap<BranchId, Branch>,
    now: Now,
    closed: bool,
}

struct Branch {
    session: http::Session,
    /// What it has to say.
    outbox: Vec<Bytes>,
    /// The trunk keeps the first of it until there is room.
    waits: bool,
    /// Nothing follows what is in the outbox.
    closing: bool,
}

impl Door {
    fn new() -> Self {
        let now = Now(1_000_000_000);
        let trunk = Trunk::new(&DoorLimits::default(), now.after(Duration::from_secs(10)), now);
        Door { trunk, branches: BTreeMap::new(), now, closed: false }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.now = self.now.after(PAUSE);
        self.trunk.receive(bytes, self.now);
        self.attend();
    }

    fn shut_down(&mut self) {
        self.trunk.shut_down(self.now);
        self.attend();
        for id in self.branches.keys().copied().collect::<Vec<_>>() {
            self.tell(id, Input::Shutdown);
        }
        self.attend();
        // Whoever does not take its answers is left.
        for id in self.branches.keys().copied().collect::<Vec<_>>() {
            self.branches.remove(&id);
            self.trunk.leave(id, self.now);
        }
        while let Some(deadline) = self.trunk.deadline() {
            self.now = self.now.max(deadline);
            self.trunk.time_out(self.now);
            self.attend();
        }
        assert!(self.closed, "a trunk that is shut down ends");
    }

    /// Does what the trunk wants done, and sends what it has to say, until there is nothing.
    fn attend(&mut self) {
        loop {
            self.trunk.work(self.now);
            let mut any = false;
            while let Some(output) = self.trunk.poll() {
                any = true;
                self.act(output);
            }
            self.speak();
            if let Some(bytes) = self.trunk.next_send() {
                any = true;
                self.trunk.sent(bytes.len().div_ceil(2));
            }
            if !any {
                return;
            }
        }
    }

    fn act(&mut self, output: Output) {
        assert!(!self.closed, "nothing follows the close: {output:?}");
        match output {
            Output::Asked { branch, head } => {
                let session = http::Session::carried(&DoorLimits::default(), self.now);
                let new = Branch { session, outbox: Vec::new(), waits: false, closing: false };
                assert!(self.branches.insert(branch, new).is_none(), "a number is used once");
                assert!(self.branches.len() <= BRANCHES_MAX as usize);
                self.tell(branch, Input::Received(&head));
            }
            Output::Heard { branch, bytes } => self.tell(branch, Input::Received(&bytes)),
            Output::Taken { branch, bytes } => {
                let Some(found) = self.branches.get_mut(&branch) else { return };
                assert!(found.waits && bytes > 0 && bytes <= BRANCH_BYTES_MAX);
                found.waits = false;
                found.took(bytes);
            }
            Output::Gone { branch } => {
                self.branches.remove(&branch);
                self.trunk.leave(branch, self.now);
            }
            Output::Broken(fault) => assert!(fault.kind() != ErrorKind::Panicked, "{fault}"),
            Output::Close => self.closed = true,
        }
    }

    /// Gives the trunk what the branches have to say, until each is done or waits.
    fn speak(&mut self) {
        let mut done = Vec::new();
        for (&id, branch) in &mut self.branches {
            while let (false, Some(bytes)) = (branch.waits, branch.outbox.first()) {
                let taken = self.trunk.answer(id, bytes, self.now);
                assert!(taken <= bytes.len());
                if taken == 0 {
                    branch.waits = true;
                } else {
                    branch.took(taken);
                }
            }
            if branch.closing && branch.outbox.is_empty() {
                done.push(id);
            }
        }
        for id in done {
            self.branches.remove(&id);
            self.trunk.leave(id, self.now);
        }
    }

    /// Gives a session one input and answers the wishes that follow.
    fn tell(&mut self, id: BranchId, input: Input<'_>) {
        let Some(branch) = self.branches.get_mut(&id) else { return };
        let mut input = Some(input);
        while let Some(next) = input.take() {
            branch.closing |= branch.session.handle(next, self.now).is_err();
            while let Some(output) = branch.session.poll() {
                match output {
                    session::Output::Send(bytes) | session::Output::Share(bytes) if !bytes.is_empty() => {
                        branch.outbox.push(bytes);
                    }
                    session::Output::Event(Event::Play { name, .. } | Event::Fetch { name, .. }) => {
                        let refused = name.app() == "none";
                        let answer =
                            if refused { Answer::Refused(Refusal::NotFound) } else { Answer::Playing };
                        input = Some(Input::Answer(answer));
                    }
                    session::Output::Event(Event::Signal(signal)) => {
                        let refused = signal.name.app() == "none";
                        let reply = if refused { Reply::refused(Fault::NotFound, "no") } else { Reply::Ended };
                        input = Some(Input::Signalled(Box::new(reply)));
                    }
                    session::Output::Close => branch.closing = true,
                    _ => {}
                }
            }
        }
    }
}

impl Branch {
    fn took(&mut self, bytes: usize) {
        let first = self.outbox.first_mut().expect("something was taken");
        // Whole pieces are let go as they are: their place is what the end is known by.
        if bytes == first.len() {
            self.outbox.remove(0);
        } else {
            let _ = first.split_to(bytes);
        }
    }
}
