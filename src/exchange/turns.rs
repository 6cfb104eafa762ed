//! Who waits, by principal: these take turns, and of one whoever came first is first. Pure.
//!
//! ```text
//!   a1 a2 a3 a4 ...          the row of a
//!   b1                       the row of b       ->  a1 b1 c1 a2 c2 a3 a4 ...
//!   c1 c2                    the row of c
//! ```

use std::collections::VecDeque;

use super::Principal;

/// Those who wait, each with what it is called by.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    /// Only principals of whom somebody waits; the front one is next.
    rows: VecDeque<(Principal, VecDeque<T>)>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { rows: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// One more, behind all others of its principal.
    pub(crate) fn push(&mut self, principal: &Principal, waiting: T) {
        match self.rows.iter_mut().find(|(who, _)| who == principal) {
            Some((_, row)) => row.push_back(waiting),
            None => self.rows.push_back((principal.clone(), [waiting].into())),
        }
    }

    /// One that is next, before everybody.
    pub(crate) fn push_front(&mut self, waiting: T) {
        self.rows.push_front((Principal::anonymous(), [waiting].into()));
    }

    /// Takes the next one; its principal comes after all others then.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (principal, mut row) = self.rows.pop_front()?;
        let next = row.pop_front();
        if !row.is_empty() {
            self.rows.push_back((principal, row));
        }
        next
    }

    /// Takes the last one of whoever has most in here, if that is more than this principal would have with one more.
    pub(crate) fn pop_for(&mut self, principal: &Principal) -> Option<T> {
        let own = self.rows.iter().find(|(who, _)| who == principal).map_or(0, |(_, row)| row.len());
        let (_, longest) = self.rows.iter_mut().max_by_key(|(_, row)| row.len())?;
        if longest.len() > own + 1 { longest.pop_back() } else { None }
    }

    /// Lets those go that are not to be kept.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.rows.iter_mut().for_each(|(_, row)| row.retain(&mut keep));
        self.rows.retain(|(_, row)| !row.is_empty());
    }

    /// Everybody, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().flat_map(|(_, row)| row)
    }
}
