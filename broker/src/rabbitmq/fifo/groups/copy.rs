//! The groups as pieces of the next log, and back.

use super::{Came, Entry, Groups};
use crate::rabbitmq::fifo::record::Piece;

impl Groups {
    /// Everything but the messages, and the messages in their order, each with its place in the old log.
    pub(crate) fn pieces(&self) -> (Vec<Piece>, Vec<(u64, Piece)>) {
        let mut pieces = vec![Piece::Base(self.base)];
        pieces.extend(self.turns.iter().map(|(turn, of)| Piece::Turn {
            turn: *turn,
            of: of.clone(),
        }));
        // In the order in which they get their turns.
        let idle = self.seekers.keys().filter(|id| !self.queue.contains(id));
        pieces.extend(self.queue.iter().chain(idle).filter_map(|consumer| {
            Some(Piece::Seeker {
                consumer: *consumer,
                of: *self.seekers.get(consumer)?,
            })
        }));
        let held = self.held.iter().map(|(group, held)| Piece::Held {
            group: group.clone(),
            held: held.clone(),
        });
        pieces.extend(held);
        let redriving = self.redriving.iter().map(|(group, of)| Piece::Redriving {
            group: group.clone(),
            of: *of,
        });
        pieces.extend(redriving);
        let identities = self.identities.iter();
        pieces.extend(identities.map(|(identity, (id, until))| Piece::Identity {
            identity: identity.clone(),
            id: id.clone(),
            until: *until,
        }));
        let mut messages = Vec::new();
        for (name, group) in &self.by_name {
            pieces.push(Piece::Group {
                group: name.clone(),
                of: group.mark,
            });
            messages.extend(group.messages.iter().map(|entry| {
                let piece = Piece::Message {
                    number: entry.number,
                    due: entry.due,
                    at: entry.at,
                    attempts: entry.attempts,
                    suspect: entry.suspect,
                };
                (entry.offset, piece)
            }));
        }
        (pieces, messages)
    }

    /// Takes in a piece of a copy.
    pub(crate) fn adopt(&mut self, piece: Piece, came: Option<&Came>) {
        match piece {
            Piece::Base(base) => self.base = base,
            Piece::Turn { turn, of } => {
                self.out += u64::from(!of.inner);
                let group = self.by_name.entry(of.group.clone()).or_default();
                group.turn = Some(turn);
                self.turns.insert(turn, of);
            }
            Piece::Seeker { consumer, of } => {
                self.seekers.insert(consumer, of);
                if of.outstanding > 0 {
                    self.queue.push_back(consumer);
                }
            }
            Piece::Group { group, of } => {
                if let Some(place) = of.place {
                    self.waiting.insert(place, group.clone());
                }
                self.by_name.entry(group).or_default().mark = of;
            }
            Piece::Held { group, held } => {
                self.held.insert(group, held);
            }
            Piece::Redriving { group, of } => {
                self.redriving.insert(group, of);
            }
            Piece::Identity {
                identity,
                id,
                until,
            } => self.know(identity, id, until),
            Piece::Message {
                number,
                due,
                at,
                attempts,
                suspect,
            } => {
                let Some(came) = came else { return };
                self.stored += 1;
                self.bytes += u64::from(came.size);
                let entry = Entry {
                    number,
                    offset: came.offset,
                    size: came.size,
                    attempts,
                    suspect,
                    due,
                    at,
                };
                let group = self.by_name.entry(came.group.clone()).or_default();
                group.messages.push_back(entry);
                if group.messages.len() == 1
                    && let Some(due) = group.due().filter(|due| *due > 0)
                {
                    self.dues.insert((due, came.group.clone()));
                }
            }
        }
    }
}
