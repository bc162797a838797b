//! Keys of `#[message(..)]` and `#[actor(..)]`, each at most once, with an error that lists the known ones.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::{LitStr, Path};

/// Where the generated code finds the library.
pub(crate) struct Root(Option<Path>);

impl Root {
    pub(crate) const fn new(krate: Option<Path>) -> Self {
        Self(krate)
    }

    /// The module with everything generated code names. The facade and the core crate both have it.
    pub(crate) fn private(&self) -> TokenStream {
        match &self.0 {
            Some(krate) => quote!(#krate::__private),
            None => quote!(::nexus_actor::__private),
        }
    }
}

/// Reads `key = value` into its place and refuses a second one.
pub(crate) fn set<T: Parse>(place: &mut Option<T>, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if place.is_some() {
        return Err(meta.error("this key is given twice"));
    }
    *place = Some(meta.value()?.parse()?);
    Ok(())
}

/// Reads `manifest = "name@1"` and checks it.
pub(crate) fn set_manifest(place: &mut Option<LitStr>, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    set(place, meta)?;
    place.as_ref().map_or(Ok(()), crate::manifest::check)
}

/// Reads a flag, a key without a value.
pub(crate) fn set_flag(place: &mut bool, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if core::mem::replace(place, true) {
        return Err(meta.error("this key is given twice"));
    }
    Ok(())
}

/// The error for a key that is not known here.
pub(crate) fn unknown(meta: &ParseNestedMeta<'_>, known: &str) -> syn::Error {
    let path = &meta.path;
    let key = quote!(#path).to_string().replace(' ', "");
    meta.error(format!("`{key}` is not known here; the known keys are {known}"))
}
