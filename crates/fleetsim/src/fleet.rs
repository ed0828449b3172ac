//! Many simulated servers at once, some of them sick.

use std::{io, ops::Index};

use crate::{answer::Answer, script::Connect, script::Script, sim::Sim};

/// Many servers.
#[derive(Debug)]
pub struct Fleet {
    sims: Vec<Sim>,
    /// Their scripts while they are well.
    well: Vec<Script>,
}

/// How much of a fleet is sick, in percent, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sickness {
    /// Their ports refuse.
    pub refusing: u32,
    /// They accept and say nothing.
    pub mute: u32,
    /// They let in, and the statements of the script never end.
    pub hanging: u32,
}

impl Default for Sickness {
    /// 30 % refuse, 10 % are mute, 5 % hang.
    fn default() -> Self {
        Self { refusing: 30, mute: 10, hanging: 5 }
    }
}

impl Fleet {
    /// So many servers; `script` says what the server of each number does.
    ///
    /// # Errors
    /// Of the operating system: ports or files have run out.
    pub async fn start(count: usize, script: impl Fn(usize) -> Script) -> io::Result<Self> {
        let (mut sims, mut well) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for n in 0..count {
            let script = script(n);
            sims.push(Sim::start(script.clone()).await?);
            well.push(script);
        }
        Ok(Self { sims, well })
    }

    /// The servers.
    pub fn sims(&self) -> &[Sim] {
        &self.sims
    }

    /// One of them, to change it.
    pub fn sim_mut(&mut self, n: usize) -> &mut Sim {
        &mut self.sims[n]
    }

    /// Makes a part of them sick, the same for the same seed. Gives the numbers of those that stay well.
    ///
    /// # Errors
    /// Of the operating system.
    pub async fn fall_sick(&mut self, sickness: Sickness, seed: u64) -> io::Result<Vec<usize>> {
        let mut order: Vec<_> = (0..self.sims.len()).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut order);
        let share = |percent: u32| self.sims.len() * percent as usize / 100;
        let sizes = [share(sickness.refusing), share(sickness.mute), share(sickness.hanging)];
        let mut rest = &order[..];
        for (size, fall) in sizes.into_iter().zip([refuse, be_mute, hang]) {
            let (sick, after) = rest.split_at(size.min(rest.len()));
            for n in sick {
                self.sims[*n].set(fall(self.well[*n].clone())).await?;
            }
            rest = after;
        }
        let mut well = rest.to_vec();
        well.sort_unstable();
        Ok(well)
    }

    /// All are well again.
    ///
    /// # Errors
    /// Of the operating system.
    pub async fn recover(&mut self) -> io::Result<()> {
        for (sim, script) in self.sims.iter_mut().zip(&self.well) {
            sim.set(script.clone()).await?;
        }
        Ok(())
    }
}

impl Index<usize> for Fleet {
    type Output = Sim;

    fn index(&self, n: usize) -> &Sim {
        &self.sims[n]
    }
}

fn refuse(script: Script) -> Script {
    script.connect(Connect::Refuse)
}

fn be_mute(script: Script) -> Script {
    script.connect(Connect::Mute)
}

/// What the script has an answer for hangs; what is built in goes on.
fn hang(script: Script) -> Script {
    let well = script.clone();
    script.first(move |statement| well.answer(statement).map(|_| Answer::hang_beyond_limits()))
}
