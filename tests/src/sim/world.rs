//! The world: hubs, peers, sockets and lanes in one thread, under a clock that is a number. All chance comes from one seed.
//!
//! Whatever is ready at an instant is done in an order that chance decides; only a connection's bytes and a lane's words
//! keep theirs. When nothing is ready the clock goes on to the next instant at which something will be.

use std::{sync::Arc, time::Duration};

use shardcast_engine::{
    hub::{Census, Hub},
    media::StreamName,
    message::{CoreId, owner_of},
    record::Fault,
    settings::Settings,
    time::{Now, Wall},
};

use super::{
    archive::{self, Occasion},
    canary::Canary,
    disk::Temper,
    driver::Core,
    judge::{Judge, Verdict},
    library::Library,
    peer::Peer,
    random::Random,
    socket::{Place, Socket},
    tap::Tap,
};

/// How kind this world is.
#[derive(Clone, Debug)]
pub struct Climate {
    /// Words that fit a lane.
    pub lane_slots: usize,
    /// Longest time that a word is on its way between cores.
    pub lane_delay: Duration,
    /// Longest time that bytes are on their way.
    pub network_delay: Duration,
    /// A core sleeps now and then for up to this long.
    pub core_pause: Duration,
    /// Longest time until a receive has stopped.
    pub quiet_delay: Duration,
    /// How often, on average, some core does.
    pub core_pause_every: Duration,
    /// A core brings its timeouts on a grid of this width only, as one does that harvests on a tick.
    pub tick: Duration,
    /// Drivers stop in the middle of a hub's outputs and go on later.
    pub halting: bool,
    /// Largest piece in which bytes are given to a hub.
    pub receive_bytes: usize,
    /// Kernels take what is sent in pieces.
    pub partial_sends: bool,
}

/// Everything there is.
pub struct World {
    pub now: Now,
    pub random: Random,
    pub climate: Climate,
    pub settings: Arc<Settings>,
    pub cores: Vec<Core>,
    pub sockets: Vec<Socket>,
    pub peers: Vec<Peer>,
    pub tap: Tap,
    pub judge: Judge,
    /// What was fetched of packaged streams.
    pub library: Library,
    pub canary: Option<Canary>,
    /// The canary has done its work at least once.
    pub sung: bool,
    /// When the lane from one core to another was last full: `[from][to]`.
    pub lane_full: Vec<Vec<Option<Now>>>,
    pub next_pause: Now,
    pub next_mood: Now,
    pub next_crash: Now,
    /// When the next datagram of nobody comes to a door, if there is one for datagrams.
    pub next_noise: Option<Now>,
    /// Frames that were read from disks, in all crashes and at the end.
    pub frames_read: u64,
    /// No fault is made any more, so that what must come in the end can be seen to come.
    pub calm: bool,
    pub draining: bool,
    /// Bounds are so tight that a group may be let go at any time, and nobody can be promised an entrance.
    pub tight: bool,
    pub trace: bool,
    pub steps: u64,
    /// Peers that were to bring out a session's bug.
    pub breaks: u64,
}

/// Something that can be done.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// A hub's deadline has come.
    Deadline(usize),
    /// A hub has outputs left.
    Outputs(usize),
    /// A hub must hear that a word could not be delivered.
    Undelivered(usize),
    /// A hub is told whether somebody may do what they want.
    Verdict(usize),
    /// A word has come for the first core from the second.
    Letter(usize, usize),
    /// A publisher has come from another core.
    Parcel(usize),
    /// A peer calls.
    Call(usize),
    /// Bytes have come for a hub.
    Receive(usize),
    /// A datagram has come to a door.
    Datagram(usize),
    /// A datagram has come beside a connection.
    Packet(usize),
    /// A datagram of nobody comes.
    Noise,
    /// A peer's side has ended.
    End(usize),
    /// The kernel can take bytes of a send.
    Send(usize),
    /// A receive has stopped.
    Quiet(usize),
    /// A peer wants to do something.
    Act(usize),
    /// A peer can read.
    Read(usize),
    /// A disk has an answer.
    Disk(usize),
    /// A core falls asleep.
    Pause,
    /// A disk gets another temper.
    Mood,
    /// Power fails, and somebody looks at what is on the disks. In this world it goes on nonetheless.
    Crash,
}

/// Steps at one instant that only a machine can need that asks to be woken for ever.
const STEPS_PER_INSTANT_MAX: u32 = 200_000;

/// How often some disk changes its temper, on average.
const MOOD_EVERY: Duration = Duration::from_secs(3);
/// How often power fails, on average.
const CRASH_EVERY: Duration = Duration::from_millis(1500);

impl World {
    /// A world of `cores` hubs in which nobody is yet.
    pub fn new(mut random: Random, cores: u16, climate: Climate, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        // No clock begins at zero, and none of them at a round number.
        let now = Now(random.between(1 << 40, 1 << 50));
        let held = (0..cores)
            .map(|core| {
                let mut hub = Hub::new(CoreId(core), cores, settings.clone());
                hub.set_wall(Wall(1_795_333_500_000_000_000), now);
                Core::new(hub, usize::from(cores))
            })
            .collect();
        let next_pause = now.after(climate.core_pause_every);
        World {
            now,
            random,
            climate,
            settings,
            cores: held,
            sockets: Vec::new(),
            peers: Vec::new(),
            tap: Tap::default(),
            judge: Judge::default(),
            library: Library::default(),
            canary: None,
            sung: false,
            lane_full: vec![vec![None; usize::from(cores)]; usize::from(cores)],
            next_pause,
            next_mood: now,
            next_crash: now.after(CRASH_EVERY),
            next_noise: None,
            frames_read: 0,
            calm: false,
            draining: false,
            tight: false,
            trace: false,
            steps: 0,
            breaks: 0,
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// What was promised and does not hold.
    pub fn run(&mut self, time: Duration) -> Verdict {
        let until = self.now.after(time);
        let mut ready = Vec::new();
        let mut here = 0;
        loop {
            let next = self.survey(&mut ready);
            if ready.is_empty() {
                match next.filter(|next| *next <= until) {
                    Some(next) => self.now = next,
                    None => {
                        self.now = until;
                        return Ok(());
                    }
                }
                here = 0;
                continue;
            }
            here += 1;
            if here > STEPS_PER_INSTANT_MAX {
                return Err(format!("the world stands still: {ready:?}"));
            }
            for index in (1..ready.len()).rev() {
                ready.swap(index, self.random.index(index + 1));
            }
            for work in ready.drain(..) {
                self.steps += 1;
                if self.trace {
                    eprintln!("{:>12.6} {work:?}", Duration::from_nanos(self.now.0).as_secs_f64());
                }
                self.perform(work)?;
            }
        }
    }

    fn perform(&mut self, work: Work) -> Verdict {
        match work {
            Work::Deadline(core) => self.bring_deadline(core),
            Work::Outputs(core) => self.carry_out(core),
            Work::Undelivered(core) => self.bring_undelivered(core),
            Work::Verdict(core) => self.bring_verdict(core),
            Work::Letter(to, from) => self.bring_letter(to, from),
            Work::Parcel(core) => self.bring_parcel(core),
            Work::Call(socket) => self.answer_call(socket),
            Work::Receive(socket) => self.bring_bytes(socket),
            Work::Datagram(socket) => self.bring_datagram(socket),
            Work::Packet(socket) => self.bring_packet(socket),
            Work::Noise => self.make_noise(),
            Work::End(socket) => self.bring_end(socket),
            Work::Send(socket) => self.send_some(socket),
            Work::Quiet(socket) => self.bring_quiet(socket),
            Work::Act(peer) => self.act(peer),
            Work::Read(peer) => self.read(peer),
            Work::Disk(core) => self.bring_answer(core),
            Work::Mood => {
                self.change_mood();
                Ok(())
            }
            Work::Crash => {
                let gap = self.up_to(CRASH_EVERY * 2);
                self.next_crash = self.now.after(gap);
                self.crash()
            }
            Work::Pause => {
                self.pause();
                Ok(())
            }
        }
    }

    /// Fills `ready` with what can be done now; returns when the next thing can be.
    fn survey(&self, ready: &mut Vec<Work>) -> Option<Now> {
        let mut next: Option<Now> = None;
        let mut offer = |at: Option<Now>, work: Work| match at {
            Some(at) if at <= self.now => ready.push(work),
            Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
            None => {}
        };
        for (index, core) in self.cores.iter().enumerate() {
            let awake = |at: Now| at.max(core.asleep_until);
            let stopped = self.canary == Some(Canary::ClockStops) && index == 0;
            if !stopped {
                let deadline = core.hub.deadline().map(|at| awake(self.on_tick(at)));
                offer(deadline, Work::Deadline(index));
            }
            offer(core.has_outputs.then(|| awake(self.now)), Work::Outputs(index));
            offer((!core.undelivered.is_empty()).then(|| awake(self.now)), Work::Undelivered(index));
            offer(core.verdicts.front().map(|(at, ..)| awake(*at)), Work::Verdict(index));
            for (from, lane) in core.lanes.iter().enumerate() {
                offer(lane.front().map(|(at, _)| awake(*at)), Work::Letter(index, from));
            }
            offer(core.disk.ready().map(awake), Work::Disk(index));
            offer(core.parcels.front().map(|(at, _, _)| awake(*at)), Work::Parcel(index));
        }
        for (index, socket) in self.sockets.iter().enumerate() {
            offer(self.datagram_at(socket), Work::Datagram(index));
            offer(self.packet_at(socket), Work::Packet(index));
            match socket.place {
                Place::Calling => offer(Some(socket.called), Work::Call(index)),
                Place::Held { core, .. } => {
                    let awake = |at: Now| at.max(self.cores[core].asleep_until);
                    if let Some(at) = self.receive_at(socket) {
                        offer(Some(awake(at)), Work::Receive(index));
                    } else if let Some(at) = self.end_at(socket) {
                        offer(Some(awake(at)), Work::End(index));
                    }
                    offer(self.send_at(socket).map(awake), Work::Send(index));
                    offer(self.quiet_at(socket).map(awake), Work::Quiet(index));
                }
                Place::Moving | Place::Closed => {}
            }
        }
        for index in 0..self.peers.len() {
            offer(self.act_at(index), Work::Act(index));
            offer(self.read_at(index), Work::Read(index));
        }
        if self.settings.default.record && !self.draining {
            offer(Some(self.next_crash), Work::Crash);
            if !self.calm {
                offer(Some(self.next_mood), Work::Mood);
            }
        }
        if !self.calm {
            offer(self.next_noise, Work::Noise);
        }
        if !self.calm && !self.climate.core_pause.is_zero() {
            offer(Some(self.next_pause), Work::Pause);
        }
        next
    }

    fn on_tick(&self, at: Now) -> Now {
        let tick = u64::try_from(self.climate.tick.as_nanos()).unwrap_or(u64::MAX);
        if tick == 0 { at } else { Now(at.0.div_ceil(tick).saturating_mul(tick)) }
    }

    fn pause(&mut self) {
        let core = self.random.index(self.cores.len());
        let pause = self.up_to(self.climate.core_pause);
        self.cores[core].asleep_until = self.now.after(pause);
        let gap = self.up_to(self.climate.core_pause_every * 2);
        // Awake for long enough that what came can be done.
        self.next_pause = self.now.after(pause + gap.max(Duration::from_millis(50)));
    }

    /// A disk changes its mind about how fast it is and whether it works.
    fn change_mood(&mut self) {
        let core = self.random.index(self.cores.len());
        let fault = match self.random.below(10) {
            0 => Some((Fault::Full, 100)),
            1 => Some((Fault::Failed, 100)),
            2 => Some((Fault::Failed, 20)),
            _ => None,
        };
        let delay = Duration::from_millis(self.random.pick(&[0, 1, 1, 20, 20, 300, 3000]));
        self.cores[core].disk.temper = Temper { fault, delay, ..self.cores[core].disk.temper };
        let gap = self.up_to(MOOD_EVERY * 2);
        self.next_mood = self.now.after(gap);
    }

    /// Looks at what would be left if power failed now.
    fn crash(&mut self) -> Verdict {
        for core in &self.cores {
            let occasion = if core.disk.has_struggled { Occasion::CrashOfABadDisk } else { Occasion::Crash };
            for (path, file) in core.disk.crash(&mut self.random) {
                self.frames_read += archive::check(&path, &file, occasion, &self.judge)?.frames;
            }
        }
        Ok(())
    }

    /// Looks at every file once all are closed.
    ///
    /// # Errors
    /// What was promised and does not hold.
    pub fn check_archive(&mut self) -> Verdict {
        for core in &self.cores {
            let occasion = if core.disk.has_struggled { Occasion::EndOnABadDisk } else { Occasion::End };
            let mut holes = 0;
            for (path, file) in &core.disk.files {
                if !file.closed {
                    return Err(format!("{path} was never closed"));
                }
                let found = archive::check(path, file, occasion, &self.judge)?;
                self.frames_read += found.frames;
                holes += found.holes;
            }
            let told = core.hub.stats().recording_gaps;
            if holes > 0 && told == 0 {
                return Err(format!("recordings have {holes} gaps, and nobody was told"));
            }
        }
        Ok(())
    }

    /// Any time up to `most`.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.random.between(0, u64::try_from(most.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The core that owns `name`.
    pub fn owner(&self, name: &StreamName) -> usize {
        let cores = u16::try_from(self.cores.len()).expect("a world has few cores");
        usize::from(owner_of(name, cores).0)
    }

    /// Everyone leaves at once: no peer does anything more.
    pub fn dismiss(&mut self) {
        for peer in 0..self.peers.len() {
            self.hang_up(peer);
        }
    }

    /// From here on every disk works and is quick.
    pub fn mend_disks(&mut self) {
        self.calm = true;
        for core in &mut self.cores {
            core.disk.temper = Temper { fault: None, delay: Duration::from_millis(1), ..core.disk.temper };
        }
    }

    /// The node goes down.
    ///
    /// # Errors
    /// What was promised and does not hold.
    pub fn drain(&mut self) -> Verdict {
        self.draining = true;
        self.judge.promises.release(None);
        for core in 0..self.cores.len() {
            self.bring_drain(core)?;
        }
        Ok(())
    }

    /// Nobody is there any more: a hub holds nothing and waits for nothing, and every connection is closed.
    ///
    /// # Errors
    /// One of them does not.
    pub fn check_silence(&mut self) -> Verdict {
        for (index, socket) in self.sockets.iter().enumerate() {
            if socket.place != Place::Closed {
                return Err(format!("socket {index} is {:?} for ever", socket.place));
            }
        }
        for (index, core) in self.cores.iter().enumerate() {
            if !core.is_empty() || core.has_outputs {
                return Err(format!("core {index} still has something to do"));
            }
            let census = core.hub.census();
            if census != Census::default() {
                return Err(format!("core {index} holds {census:?} for nobody"));
            }
            if let Some(deadline) = core.hub.deadline() {
                return Err(format!("core {index} waits for {deadline:?} and has nobody"));
            }
            if self.draining && !core.hub.is_drained() {
                return Err(format!("core {index} is not drained"));
            }
            let panics = core.hub.stats().errors_panicked;
            if panics > self.breaks {
                return Err(format!("{panics} sessions panicked, {} were asked to", self.breaks));
            }
        }
        Ok(())
    }
}
