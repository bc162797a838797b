//! The actors at the top.

use core::convert::Infallible;

use crate::actor::{Actor, ActorError};
use crate::context::Context;
use crate::props::Props;

/// An actor that does nothing but supervise its children.
#[derive(Debug, Default)]
pub struct Guardian;

impl Guardian {
    /// How to make one.
    pub fn props() -> Props<Self> {
        Props::from_fn(Self::default)
    }
}

impl Actor for Guardian {
    type Msg = Infallible;

    async fn receive(&mut self, message: Infallible, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {}
    }
}
