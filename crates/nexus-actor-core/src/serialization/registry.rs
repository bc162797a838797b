//! temp
use super::Message;
/// temp
#[derive(Default)]
pub struct SerializationRegistry;
/// temp
#[derive(Debug)]
pub struct RegistrationError;
impl SerializationRegistry {
    pub(crate) fn register<M: Message>(&self) -> Result<(), RegistrationError> {
        Ok(())
    }
}
