//! References inside messages: a reference is serialized as its path and comes back as a reference.

use alloc::string::{String, ToString};
use core::fmt;
use core::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::actor_ref::{ActorRef, Body};
use crate::path::ActorPath;
use crate::serialization::{Message, scope};

impl<M: Send + 'static> Serialize for ActorRef<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Body::Adapter(_) = &self.0.body {
            let text = "an adapted reference cannot cross a wire: its function lives here";
            scope::set_fault(text.to_string());
            return Err(serde::ser::Error::custom(text));
        }
        let path = self.path();
        if path.address().authority.is_none() && scope::is_encoding() {
            let text = "a reference to an actor of a node without remoting address cannot cross a wire";
            scope::set_fault(text.to_string());
            return Err(serde::ser::Error::custom(text));
        }
        serializer.collect_str(&path)
    }
}

impl<'de, M: Message> Deserialize<'de> for ActorRef<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Path<M>(PhantomData<fn() -> M>);
        impl<M: Message> Visitor<'_> for Path<M> {
            type Value = ActorRef<M>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of an actor")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ActorRef<M>, E> {
                resolve(text).map_err(|text| {
                    scope::set_fault(text.clone());
                    E::custom(text)
                })
            }
        }
        deserializer.deserialize_str(Path(PhantomData))
    }
}

fn resolve<M: Message>(text: &str) -> Result<ActorRef<M>, String> {
    let system = scope::system()
        .ok_or("an ActorRef can only be deserialized inside a message that an actor system receives")?;
    let path: ActorPath = text.parse().map_err(|error| alloc::format!("{text:?}: {error}"))?;
    system.resolve_path(&path).map_err(|error| error.to_string())
}
