//! Collects the errors of one macro call.

use quote::ToTokens;

/// Every fault of one input, so that the user sees them all at once.
#[derive(Default)]
pub(crate) struct Faults(Option<syn::Error>);

impl Faults {
    pub(crate) fn add(&mut self, at: impl ToTokens, why: &str) {
        self.push(syn::Error::new_spanned(at, why));
    }

    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }

    pub(crate) fn finish(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
