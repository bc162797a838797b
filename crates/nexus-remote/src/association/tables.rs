//! Recipients and message types as short numbers: the sending side of the session's tables (L14).

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use nexus_actor_core::Refusal;
use nexus_actor_core::path::ActorPath;
use nexus_actor_core::serialization::SerializerId;

use super::config::AssociationConfig;
use crate::wire::{DefineManifest, WirePath};

/// Whom a reference speaks to, and as what.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Recipient {
    pub(super) path: ActorPath,
    pub(super) serializer: SerializerId,
    pub(super) manifest: &'static str,
}

const NONE: u32 = u32::MAX;

/// How many entries are looked at for the coldest before it is replaced.
const SAMPLE: usize = 64;

#[derive(Debug)]
struct Handle {
    recipient: Arc<Recipient>,
    users: u32,
    slot: u32,
    manifest: u16,
    manifest_stamp: u32,
}

#[derive(Debug)]
struct Slot {
    recipient: Arc<Recipient>,
    /// The handle it stands for; none once that was released or the slot is stale.
    handle: u32,
    last_used: u64,
}

#[derive(Debug)]
struct Manifest {
    serializer: SerializerId,
    name: &'static str,
    /// Changes with the meaning, so that a handle knows whether its number still holds.
    stamp: u32,
    last_used: u64,
    /// The peer is told of it before it is used. Not so when the recipient it was taken for found no number.
    defined: bool,
}

/// What a frame is to be written with, and what must be defined before it.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) reference: u32,
    pub(super) manifest: u16,
    pub(super) recipient: Option<Arc<Recipient>>,
    /// What the number meant before, when it was in use.
    pub(super) replaced: Option<Arc<Recipient>>,
    pub(super) define_manifest: bool,
}

/// The numbers of recipients, for the node (handles, which outlive sessions) and for the wire (slots).
///
/// A slot may be given a new meaning at any time: its definition travels in the same lane as its uses, so every
/// earlier frame is read with the earlier meaning. The coldest is preferred all the same, since a definition
/// costs bytes.
#[derive(Debug)]
pub(super) struct OutTables {
    handles: Vec<Option<Handle>>,
    free: Vec<u32>,
    by_name: HashMap<Arc<Recipient>, u32>,
    slots: Vec<Slot>,
    hand: usize,
    manifests: Vec<Manifest>,
    manifest_hand: usize,
    stamp: u32,
    bytes: usize,
    references_max: usize,
    manifests_max: usize,
    bytes_max: usize,
    recipients_max: usize,
}

impl OutTables {
    pub(super) fn new(config: &AssociationConfig) -> Self {
        Self {
            handles: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
            manifests: Vec::new(),
            manifest_hand: 0,
            stamp: 0,
            bytes: 0,
            references_max: config.references_max() as usize,
            manifests_max: usize::from(config.manifests_max()),
            bytes_max: config.table_bytes_max(),
            recipients_max: config.recipients_max(),
        }
    }

    pub(super) fn intern(
        &mut self,
        path: &ActorPath,
        serializer: SerializerId,
        manifest: &'static str,
    ) -> Result<u32, Refusal> {
        WirePath::of(path).map_err(|e| Refusal::Encode(alloc::format!("{e}")))?;
        DefineManifest::new(0, serializer, manifest).map_err(|e| Refusal::Encode(alloc::format!("{e}")))?;
        let recipient = Arc::new(Recipient { path: path.clone(), serializer, manifest });
        if let Some(&index) = self.by_name.get(&recipient)
            && let Some(Some(handle)) = self.handles.get_mut(index as usize)
        {
            handle.users += 1;
            return Ok(index);
        }
        if self.handles.len() - self.free.len() >= self.recipients_max {
            return Err(Refusal::Limit("remote recipients in use"));
        }
        let handle =
            Handle { recipient: recipient.clone(), users: 1, slot: NONE, manifest: 0, manifest_stamp: 0 };
        let index = match self.free.pop() {
            Some(index) => {
                self.handles[index as usize] = Some(handle);
                index
            }
            None => {
                let index = u32::try_from(self.handles.len())
                    .map_err(|_| Refusal::Limit("remote recipients in use"))?;
                self.handles.push(Some(handle));
                index
            }
        };
        self.by_name.insert(recipient, index);
        Ok(index)
    }

    pub(super) fn release(&mut self, index: u32) {
        let Some(place) = self.handles.get_mut(index as usize) else { return };
        let Some(handle) = place else { return };
        handle.users -= 1;
        if handle.users > 0 {
            return;
        }
        if let Some(slot) = self.slots.get_mut(handle.slot as usize)
            && slot.handle == index
        {
            slot.handle = NONE;
        }
        self.by_name.remove(&handle.recipient);
        *place = None;
        self.free.push(index);
    }

    /// Whom the handle `index` names.
    pub(super) fn recipient(&self, index: u32) -> Option<&Arc<Recipient>> {
        self.handles.get(index as usize)?.as_ref().map(|h| &h.recipient)
    }

    /// What the manifest number `id` means.
    pub(super) fn manifest(&self, id: u16) -> Option<(SerializerId, &'static str)> {
        self.manifests.get(usize::from(id)).map(|m| (m.serializer, m.name))
    }

    /// How many handles are in use.
    pub(super) fn len(&self) -> usize {
        self.handles.len() - self.free.len()
    }

    /// The numbers for one frame to `index`, if the peer knows both; its own number in the lane is `number`.
    #[inline]
    pub(super) fn known(&mut self, index: u32, number: u64) -> Option<(u32, u16)> {
        let Some(Some(handle)) = self.handles.get(index as usize) else { return None };
        let (reference, manifest, stamp) = (handle.slot, handle.manifest, handle.manifest_stamp);
        let slot = self.slots.get_mut(reference as usize).filter(|slot| slot.handle == index)?;
        let named = self.manifests.get_mut(usize::from(manifest)).filter(|named| named.stamp == stamp)?;
        slot.last_used = number;
        named.last_used = number;
        Some((reference, manifest))
    }

    /// The numbers for one frame to `index`, whose own number in the lane is `number` or later.
    #[inline]
    pub(super) fn assign(&mut self, index: u32, number: u64) -> Result<Assigned, Refusal> {
        let Some(Some(handle)) = self.handles.get(index as usize) else {
            return Err(Refusal::NoSuchActor);
        };
        let (slot, manifest) = (handle.slot, usize::from(handle.manifest));
        let slot_good = self.slots.get(slot as usize).is_some_and(|s| s.handle == index);
        let manifest_good = self.manifests.get(manifest).is_some_and(|m| m.stamp == handle.manifest_stamp);
        if slot_good && manifest_good {
            self.slots[slot as usize].last_used = number;
            self.manifests[manifest].last_used = number;
            return Ok(Assigned {
                reference: slot,
                manifest: manifest as u16,
                recipient: None,
                replaced: None,
                define_manifest: false,
            });
        }
        self.define(index, number, slot_good, manifest_good)
    }

    #[cold]
    fn define(
        &mut self,
        index: u32,
        number: u64,
        slot_good: bool,
        manifest_good: bool,
    ) -> Result<Assigned, Refusal> {
        let Some(Some(handle)) = self.handles.get(index as usize) else {
            return Err(Refusal::NoSuchActor);
        };
        let recipient = handle.recipient.clone();
        let mut assigned = Assigned {
            reference: handle.slot,
            manifest: handle.manifest,
            recipient: None,
            replaced: None,
            define_manifest: false,
        };
        let mut stamp = handle.manifest_stamp;
        if !manifest_good {
            (assigned.manifest, stamp, assigned.define_manifest) = self.take_manifest(&recipient)?;
        }
        if !slot_good {
            (assigned.reference, assigned.replaced) = self.take_slot(index, &recipient)?;
            assigned.recipient = Some(recipient);
        }
        self.slots[assigned.reference as usize].last_used = number;
        let manifest = &mut self.manifests[usize::from(assigned.manifest)];
        (manifest.last_used, manifest.defined) = (number, true);
        if let Some(Some(handle)) = self.handles.get_mut(index as usize) {
            handle.slot = assigned.reference;
            handle.manifest = assigned.manifest;
            handle.manifest_stamp = stamp;
        }
        Ok(assigned)
    }

    fn take_slot(
        &mut self,
        index: u32,
        recipient: &Arc<Recipient>,
    ) -> Result<(u32, Option<Arc<Recipient>>), Refusal> {
        let need = recipient.path.elements().len();
        let slot = Slot { recipient: recipient.clone(), handle: index, last_used: 0 };
        if self.slots.len() < self.references_max && self.bytes + need <= self.bytes_max {
            self.slots.push(slot);
            self.bytes += need;
            return Ok(((self.slots.len() - 1) as u32, None));
        }
        let room = self.bytes_max.saturating_sub(self.bytes);
        let mut coldest: Option<(usize, u64)> = None;
        for step in 0..self.slots.len() {
            let at = (self.hand + step) % self.slots.len();
            let candidate = &self.slots[at];
            if candidate.recipient.path.elements().len() + room < need {
                continue;
            }
            // A released handle's slot is colder than any that is still spoken to.
            let heat = if candidate.handle == NONE { 0 } else { candidate.last_used.saturating_add(1) };
            if coldest.is_none_or(|(_, least)| heat < least) {
                coldest = Some((at, heat));
            }
            if step + 1 >= SAMPLE && coldest.is_some() {
                break;
            }
        }
        let (at, _) = coldest.ok_or(Refusal::Limit("bytes of the reference table"))?;
        self.hand = (at + 1) % self.slots.len();
        let old = core::mem::replace(&mut self.slots[at], slot);
        self.bytes = self.bytes + need - old.recipient.path.elements().len();
        Ok((at as u32, Some(old.recipient)))
    }

    fn take_manifest(&mut self, recipient: &Recipient) -> Result<(u16, u32, bool), Refusal> {
        let (serializer, name) = (recipient.serializer, recipient.manifest);
        if let Some(at) = self.manifests.iter().position(|m| m.serializer == serializer && m.name == name) {
            let known = &self.manifests[at];
            return Ok((at as u16, known.stamp, !known.defined));
        }
        self.stamp += 1;
        let entry = Manifest { serializer, name, stamp: self.stamp, last_used: 0, defined: false };
        if self.manifests.len() < self.manifests_max && self.bytes + name.len() <= self.bytes_max {
            self.manifests.push(entry);
            self.bytes += name.len();
            return Ok(((self.manifests.len() - 1) as u16, self.stamp, true));
        }
        let room = self.bytes_max.saturating_sub(self.bytes);
        let mut coldest: Option<(usize, u64)> = None;
        for step in 0..self.manifests.len() {
            let at = (self.manifest_hand + step) % self.manifests.len();
            let candidate = &self.manifests[at];
            if candidate.name.len() + room >= name.len()
                && coldest.is_none_or(|(_, least)| candidate.last_used < least)
            {
                coldest = Some((at, candidate.last_used));
            }
        }
        let (at, _) = coldest.ok_or(Refusal::Limit("bytes of the manifest table"))?;
        self.manifest_hand = (at + 1) % self.manifests.len();
        self.bytes = self.bytes + name.len() - self.manifests[at].name.len();
        self.manifests[at] = entry;
        Ok((at as u16, self.stamp, true))
    }

    /// What one number means at the end of the lane.
    pub(super) fn meaning(&self, reference: u32) -> Option<Arc<Recipient>> {
        self.slots.get(reference as usize).map(|slot| slot.recipient.clone())
    }

    /// What each number means at the end of the lane.
    pub(super) fn meanings(&self) -> Vec<Arc<Recipient>> {
        self.slots.iter().map(|s| s.recipient.clone()).collect()
    }

    /// A new session begins: every number is free, every handle stays.
    pub(super) fn restart(&mut self) {
        self.slots.clear();
        self.manifests.clear();
        self.bytes = 0;
        self.hand = 0;
        self.manifest_hand = 0;
        // No handle needs touching: a slot is good only if it names the handle, a manifest only by its stamp.
        self.stamp += 1;
    }
}
