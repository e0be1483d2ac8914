//! What holds in an event, as it is found out.

use super::NONE;
use super::field::COUNTS;

/// The conditions that hold somewhere in an event.
#[derive(Debug)]
pub(super) struct Hits {
    /// Hits from this on are of the member being read, and of no other that could be taken back without it.
    pub(super) member: u32,
    /// Counts events, so that nothing needs to be reset between them.
    pub(super) event: u64,
    pub(super) satisfied: Vec<u32>,
    marks: Vec<Mark>,
    pub(super) log: Vec<Hit>,
    /// Whether a repeated key took hits back.
    retracted: bool,
}

/// The last hit of a condition.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    event: u64,
    hit: u32,
    /// Values that satisfied it, if it is one that counts.
    count: u32,
}

/// A condition satisfied by values in a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub(super) condition: u32,
    pub(super) context: u32,
    /// How many, if the condition is one that counts.
    pub(super) count: u32,
}

impl Hit {
    pub(super) fn is(&self, condition: u32, context: u32) -> bool {
        (self.condition, self.context) == (condition, context)
    }
}

impl Hits {
    pub(super) fn new(conditions: usize) -> Self {
        Self {
            member: 0,
            event: 0,
            satisfied: Vec::new(),
            marks: vec![Mark::default(); conditions],
            log: Vec::new(),
            retracted: false,
        }
    }

    pub(super) fn begin(&mut self) {
        self.event += 1;
        self.member = 0;
        self.satisfied.clear();
        self.log.clear();
        self.retracted = false;
    }

    /// Notes that a value satisfies a target.
    #[inline]
    pub(super) fn hit(&mut self, target: u32, context: u32) {
        let counts = target & COUNTS != 0;
        let condition = target & !COUNTS;
        let mark = &mut self.marks[condition as usize];
        if mark.event == self.event {
            let last = self.log.get_mut(mark.hit as usize);
            if let Some(last) = last.filter(|last| last.is(condition, context)) {
                if !counts {
                    return;
                }
                if mark.hit >= self.member {
                    mark.count += 1;
                    last.count += 1;
                    return;
                }
            }
        } else {
            self.satisfied.push(condition);
            mark.event = self.event;
            mark.count = 0;
        }
        mark.hit = self.log.len() as u32;
        mark.count += 1;
        self.log.push(Hit {
            condition,
            context,
            count: 1,
        });
    }

    #[inline]
    pub(super) fn count(&self, condition: u32) -> u32 {
        let mark = self.marks[condition as usize];
        if mark.event == self.event {
            mark.count
        } else {
            0
        }
    }

    #[inline]
    pub(super) fn are_on(&self, condition: u32) -> bool {
        self.marks[condition as usize].event == self.event
    }

    /// Takes back the hits of a member whose key came again.
    #[cold]
    pub(super) fn retract(&mut self, hits: std::ops::Range<usize>) {
        for hit in &mut self.log[hits] {
            hit.condition = NONE;
            self.retracted = true;
        }
    }

    /// Drops the hits that were taken back.
    pub(super) fn settle(&mut self) {
        if !self.retracted {
            return;
        }
        self.event += 1;
        self.satisfied.clear();
        self.log.retain(|hit| hit.condition != NONE);
        for (index, hit) in self.log.iter().enumerate() {
            let mark = &mut self.marks[hit.condition as usize];
            if mark.event != self.event {
                self.satisfied.push(hit.condition);
                mark.count = 0;
            }
            *mark = Mark {
                event: self.event,
                hit: index as u32,
                count: mark.count + hit.count,
            };
        }
    }
}
