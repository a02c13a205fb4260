//! A transaction, tried until it is known whether it happened.
//!
//! The hard case is an answer that does not come. Repeating the transaction could do it twice; reading what it would
//! have put can't tell it from the same put by somebody else. So each transaction also leaves a mark: it replaces the
//! value of a key that nobody else writes, and compares that key with what its writer put there last. Then repeating
//! is safe, because of all attempts at most one finds the mark as it was; and the next answer tells, because an
//! attempt that fails shows the mark: with this transaction's own value on it, an earlier attempt has happened.
//!
//! One case is left: an attempt may still be on its way when a later one is refused by the caller's own compare. Then
//! the mark is overwritten first, after which the attempt under way can't happen any more, and the refusal is true.

use super::Inner;
use super::failure::Fault;
use super::marks::Mark;
use super::members::Attempts;
use super::reading::{revision_of, versioned};
use super::wire::{Compare, KeyValue, RequestOp, TXN, TxnRequest, TxnResponse};
use crate::error::TxnError;
use crate::types::{Committed, Expect, Op, Revision, Txn};

/// What the mark holds after it was overwritten to stop an attempt.
const STOPPED: &[u8] = b"stopped";

impl Inner {
    pub(super) async fn txn(&self, txn: &Txn) -> Result<Committed, TxnError> {
        txn.validate()?;
        if txn.ops.is_empty() {
            return self.check_only(txn).await;
        }
        let Some(mut turn) = self.marks.take(&self.layout).await else { return Err(TxnError::Closed) };
        let done = self.submit(txn, &mut turn.mark).await;
        // A mark whose transaction is open is never used again: it may still be changed.
        if !matches!(done, Err(TxnError::Uncertain { .. })) {
            self.marks.give_back(turn);
        }
        done
    }

    /// Compares alone change nothing, and can be tried like a read.
    async fn check_only(&self, txn: &Txn) -> Result<Committed, TxnError> {
        let request = self.request(txn, None);
        let answer = self.ask(TXN, request).await.map_err(|fault| fault.into_txn_error(&self.name))?;
        self.without_mark(txn, answer)
    }

    async fn submit(&self, txn: &Txn, mark: &mut Mark) -> Result<Committed, TxnError> {
        let mut attempts = Attempts::new(&self.options);
        // Whether an attempt went out whose outcome is open.
        let mut open = false;
        let value = mark.fresh_value();
        loop {
            let request = self.request(txn, Some((mark, &value)));
            let refusal = match self.once::<_, TxnResponse>(TXN, request).await {
                Ok(answer) if answer.succeeded => {
                    mark.revision = answer.header.unwrap_or_default().revision;
                    return Ok(Committed { revision: revision_of(mark.revision) });
                }
                Ok(answer) => match self.judge(txn, mark, &value, answer)? {
                    Judged::Happened(revision) => {
                        mark.revision = revision;
                        return Ok(Committed { revision: revision_of(revision) });
                    }
                    Judged::MarkGone => {
                        // Deleted by who sweeps: no attempt that compares it can happen any more.
                        (mark.revision, open) = (0, false);
                        continue;
                    }
                    Judged::Conflict(conflict) => conflict,
                },
                Err(fault) if fault.passes() => {
                    open |= matches!(fault, Fault::Unclear(_));
                    if attempts.pause().await {
                        continue;
                    }
                    return Err(if open { uncertain(&fault) } else { fault.into_txn_error(&self.name) });
                }
                Err(Fault::Full) if txn.only_deletes() && !open => return self.make_room(txn).await,
                Err(fault) => fault.into_txn_error(&self.name),
            };
            return if open { self.stop(mark, &value, refusal, &mut attempts).await } else { Err(refusal) };
        }
    }

    /// Deletes where there is no room even for a mark. An answer that is lost leaves this one uncertain.
    async fn make_room(&self, txn: &Txn) -> Result<Committed, TxnError> {
        match self.once::<_, TxnResponse>(TXN, self.request(txn, None)).await {
            Ok(answer) => self.without_mark(txn, answer),
            Err(fault @ Fault::Unclear(_)) => Err(uncertain(&fault)),
            Err(fault) => Err(fault.into_txn_error(&self.name)),
        }
    }

    /// Reads the answer to a transaction that leaves no mark.
    fn without_mark(&self, txn: &Txn, answer: TxnResponse) -> Result<Committed, TxnError> {
        if answer.succeeded {
            return Ok(Committed { revision: revision_of(answer.header.unwrap_or_default().revision) });
        }
        let mut found = found(answer);
        self.check_own(found.next().flatten())?;
        Err(conflict(txn, found).unwrap_or_else(|| self.inexplicable()))
    }

    /// Makes sure that no attempt under way can happen any more, so that `refusal` is the truth.
    pub(super) async fn stop(
        &self,
        mark: &mut Mark,
        value: &[u8],
        refusal: TxnError,
        attempts: &mut Attempts,
    ) -> Result<Committed, TxnError> {
        let request = TxnRequest {
            compare: vec![Compare::put_at(mark.key.clone(), mark.revision)],
            success: vec![RequestOp::put(mark.key.clone(), STOPPED.to_vec())],
            failure: vec![RequestOp::range(mark.key.clone())],
        };
        loop {
            let fault = match self.once::<_, TxnResponse>(TXN, request.clone()).await {
                Ok(answer) if answer.succeeded => {
                    mark.revision = answer.header.unwrap_or_default().revision;
                    return Err(refusal);
                }
                Ok(answer) => {
                    let now = found(answer).next().flatten();
                    mark.revision = now.as_ref().map_or(0, |kv| kv.mod_revision);
                    return match now {
                        Some(kv) if kv.value == value => {
                            Ok(Committed { revision: revision_of(kv.mod_revision) })
                        }
                        // An earlier try of this very request, or a sweep: both stopped it.
                        _ => Err(refusal),
                    };
                }
                Err(fault) => fault,
            };
            if !fault.passes() || !attempts.pause().await {
                return Err(uncertain(&fault));
            }
        }
    }

    /// Reads the answer to an attempt that did nothing.
    fn judge(&self, txn: &Txn, mark: &Mark, value: &[u8], answer: TxnResponse) -> Result<Judged, TxnError> {
        let mut found = found(answer);
        self.check_own(found.next().flatten())?;
        match found.next().flatten() {
            Some(kv) if kv.value == value => return Ok(Judged::Happened(kv.mod_revision)),
            Some(kv) if kv.mod_revision != mark.revision => {
                let told = "a key that only this process writes was written by another: the store was put back to an \
                            earlier state, or two processes share one identity";
                return Err(self.identity.refuse(told).into_txn_error(&self.name));
            }
            None if mark.revision != 0 => return Ok(Judged::MarkGone),
            _ => {}
        }
        Ok(Judged::Conflict(conflict(txn, found).unwrap_or_else(|| self.inexplicable())))
    }

    /// Every transaction compares the store's own record.
    fn check_own(&self, own: Option<KeyValue>) -> Result<(), TxnError> {
        let created = own.map_or(0, |kv| kv.create_revision);
        if created == self.identity.begun() {
            return Ok(());
        }
        let told = format!(
            "the store's own record, created at revision {}, is {}",
            self.identity.begun(),
            if created == 0 { "gone".to_owned() } else { format!("another one, created at {created}") }
        );
        Err(self.identity.refuse(&told).into_txn_error(&self.name))
    }

    fn inexplicable(&self) -> TxnError {
        let reason = "a transaction was refused although every compare holds".to_owned();
        TxnError::Refused { store: self.name.clone(), reason }
    }

    /// The transaction in etcd's words. What a failed one shows comes in this order: the store's own record, the mark
    /// if there is one, the key of each compare.
    pub(super) fn request(&self, txn: &Txn, mark: Option<(&Mark, &[u8])>) -> TxnRequest {
        let mut request = TxnRequest {
            compare: vec![Compare::created_at(self.layout.own(), self.identity.begun())],
            success: Vec::with_capacity(txn.ops.len() + 1),
            failure: vec![RequestOp::range(self.layout.own())],
        };
        for op in &txn.ops {
            request.success.push(match op {
                Op::Put { key, value } => RequestOp::put(self.layout.record(key), value.clone()),
                Op::Delete { key } => RequestOp::delete(self.layout.record(key)),
            });
        }
        if let Some((mark, value)) = mark {
            request.compare.push(Compare::put_at(mark.key.clone(), mark.revision));
            request.success.push(RequestOp::put(mark.key.clone(), value.to_vec()));
            request.failure.push(RequestOp::range(mark.key.clone()));
        }
        for compare in &txn.compares {
            let key = self.layout.record(&compare.key);
            request.failure.push(RequestOp::range(key.clone()));
            request.compare.push(match compare.expect {
                Expect::Absent => Compare::created_at(key, 0),
                Expect::Exists => Compare::exists(key),
                // Zero would mean "no such key" to etcd; no value was ever put at it.
                Expect::ModRevision(Revision(0)) => Compare::put_at(key, i64::MAX),
                Expect::ModRevision(revision) => {
                    Compare::put_at(key, i64::try_from(revision.0).unwrap_or(i64::MAX))
                }
            });
        }
        request
    }
}

/// What an attempt that did nothing means.
enum Judged {
    /// An earlier one did, at this revision.
    Happened(i64),
    MarkGone,
    Conflict(TxnError),
}

fn found(answer: TxnResponse) -> impl Iterator<Item = Option<KeyValue>> {
    answer.responses.into_iter().map(|response| response.range.and_then(|range| range.kvs.into_iter().next()))
}

/// The first compare that does not hold of what was found.
fn conflict(txn: &Txn, found: impl Iterator<Item = Option<KeyValue>>) -> Option<TxnError> {
    txn.compares.iter().zip(found).find_map(|(compare, now)| {
        let current = now.map(versioned);
        let holds = compare.holds(current.as_ref().map(|current| current.mod_revision));
        (!holds).then(|| TxnError::Conflict { key: compare.key.clone(), current })
    })
}

fn uncertain(fault: &Fault) -> TxnError {
    TxnError::Uncertain { reason: fault.reason() }
}
