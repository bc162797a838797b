//! The name of a payload's type.

use std::fmt;

/// Package and name of a protobuf message.
///
/// The same shape as the core's `serialization::protobuf::TypeName`, which takes its place once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeName {
    /// `google.protobuf`. May be empty.
    pub package: &'static str,
    /// `StringValue`.
    pub name: &'static str,
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.package {
            "" => f.write_str(self.name),
            package => write!(f, "{package}.{}", self.name),
        }
    }
}
