//! `#[actor]`: [`model`] reads the `impl` block and refuses what cannot work, [`expand`] writes the code.

mod expand;
mod model;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{ImplItem, ItemImpl};

use model::{Model, Options};

/// The block as written plus what it generates, or plus errors: the user's own functions stay visible to the
/// compiler either way, so that one mistake does not look like many.
pub(crate) fn expand(arguments: TokenStream, block: TokenStream) -> TokenStream {
    let mut block: ItemImpl = match syn::parse2(block.clone()) {
        Ok(block) => block,
        Err(error) => {
            let why = syn::Error::new(
                error.span(),
                format!("`#[actor]` stands above the `impl` block of the actor's state: {error}"),
            )
            .into_compile_error();
            return quote!(#block #why);
        }
    };
    let generated = Options::read(arguments)
        .and_then(|options| Model::read(options, &block))
        .map_or_else(syn::Error::into_compile_error, |model| expand::expand(&model));
    for item in &mut block.items {
        if let ImplItem::Fn(function) = item {
            function.attrs.retain(|a| !a.path().is_ident("message") && !a.path().is_ident("signal"));
        }
    }
    quote!(#block #generated)
}

#[cfg(test)]
mod tests {
    use super::expand;
    use quote::quote;

    fn errors(arguments: &str, block: &str) -> Vec<String> {
        let out = expand(
            arguments.parse().unwrap_or_else(|e| panic!("{arguments}: {e}")),
            block.parse().unwrap_or_else(|e| panic!("{block}: {e}")),
        )
        .to_string();
        let marker = quote!(::core::compile_error!).to_string();
        out.split(&marker).skip(1).map(|rest| rest.split('"').nth(1).unwrap_or_default().into()).collect()
    }

    #[track_caller]
    fn check(arguments: &str, block: &str, expected: &[&str]) {
        let found = errors(arguments, block);
        assert_eq!(found.len(), expected.len(), "{arguments} {block}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{block}: {found}");
        }
    }

    #[test]
    fn options() {
        let block = "impl A { #[message] fn b(&mut self) {} }";
        for (arguments, expected) in [
            ("", &[][..]),
            ("vis = pub(crate), message = M, handle = H, derive(Debug, Clone), crate = a::b", &[]),
            ("manifest = 1", &["expected string literal"]),
            ("manifest = A", &["expected string literal"]),
            ("msg = M", &["the known keys are"]),
            ("message = M, message = N", &["given twice"]),
            ("vis = , message = M", &["`vis = pub(crate)`"]),
        ] {
            check(arguments, block, expected);
        }
    }

    #[test]
    fn blocks() {
        for (block, expected) in [
            ("struct A;", "stands above the `impl` block"),
            ("impl A { fn b(&mut self) {} }", "put `#[message]`"),
            ("impl<T> A<T> { #[message] fn b(&mut self) {} }", "cannot do a generic actor"),
            ("impl A<'_> { #[message] fn b(&mut self) {} }", "cannot borrow"),
            ("impl Actor for A { #[message] fn b(&mut self) {} }", "not of a trait"),
            ("impl [u8] { #[message] fn b(&mut self) {} }", "a type of yours"),
        ] {
            check("", block, &[expected]);
        }
    }

    #[test]
    fn methods() {
        for (method, expected) in [
            ("#[message] fn b(&mut self, _c: u8, d: Vec<[u8; 2]>, cx: &mut Context<'_, Self>) {}", &[][..]),
            ("#[message] fn b(&mut self, mut c: u8, d: &'static str) -> u8 { c }", &[]),
            ("#[message] async fn b(&mut self, c: u8, reply: Reply<u8>) -> Result<(), ActorError> {}", &[]),
            ("#[message] fn b(&self, f: Box<dyn Fn(&str) + Send>) {}", &[]),
            ("#[message(ask, name = C)] fn b(&mut self) {}", &[]),
            (
                "#[message] fn b(&mut self) {} #[signal] async fn on(&mut self, s: Signal, cx: &mut Context<'_, Self>) {}",
                &[],
            ),
            (
                "#[cfg(unix)] #[message] fn b(&mut self) {} #[cfg(not(unix))] #[message] fn b(&mut self) {}",
                &[],
            ),
            ("#[message] fn b(self) {}", &["`&mut self`"]),
            ("#[message] fn b(self: Box<Self>) {}", &["`&mut self`"]),
            ("#[message] fn b(c: u8) {}", &["`&mut self`"]),
            ("#[message] fn b(&mut self, (c, d): (u8, u8)) {}", &["needs a name"]),
            ("#[message] fn b(&mut self, _: u8) {}", &["needs a name"]),
            ("#[message] fn b(&mut self, ref c: u8) {}", &["needs a name"]),
            ("#[message] fn b(&mut self, c: &str) {}", &["`String` instead of `&str`"]),
            ("#[message] fn b(&mut self, c: &[u8]) {}", &["`Vec<T>` instead of `&[T]`"]),
            ("#[message] fn b(&mut self, c: Option<&u8>) {}", &["by value"]),
            ("#[message] fn b(&mut self, c: Cow<'_, str>) {}", &["cannot borrow"]),
            ("#[message] fn b(&mut self, c: impl Copy) {}", &["name the type"]),
            ("#[message] fn b(&mut self) -> impl Copy {}", &["name the type"]),
            ("#[message] fn b(&self) -> &str {}", &["`String` instead of `&str`"]),
            ("#[message] fn b<T>(&mut self, c: T) {}", &["cannot be generic"]),
            ("#[message] unsafe fn b(&mut self) {}", &["unsafe"]),
            ("#[message] fn b(&mut self, reply: u8) -> u8 { 0 }", &["rename this argument"]),
            ("#[message] fn b(&mut self, c: Reply<u8>, d: Reply<u8>) {}", &["one `Reply`"]),
            ("#[message] fn b(&mut self, c: Reply<u8>) -> u8 {}", &["either"]),
            ("#[message(ask)] fn b(&mut self) -> u8 {}", &["remove `ask`"]),
            ("#[message(local)] fn b(&mut self) {}", &["remove `local`"]),
            ("#[message(later)] fn b(&mut self) {}", &["the known keys are"]),
            (
                "#[message] fn b(&mut self, c: &mut Context<'_, Self>, d: &mut Context<'_, Self>) {}",
                &["one context"],
            ),
            (
                "#[message] fn a_b(&mut self) {} #[message] fn a__b(&mut self) {}",
                &["both become the variant `AB`"],
            ),
            ("#[message] fn _1(&mut self) {}", &["`#[message(name = "]),
            ("#[message] fn stop(&mut self) {}", &["`ActorRef` has a method `stop`"]),
            ("#[message] fn with_headers(&mut self) {}", &["`tell_with_headers`"]),
            (
                "#[message] fn b(&mut self) {} #[message] fn tell_b(&mut self) -> u8 { 0 }",
                &["`tell_b` is generated for `b`"],
            ),
            ("#[message] #[signal] fn b(&mut self) {}", &["not both"]),
            ("#[message] fn b(&mut self) {} #[signal] fn c(&mut self) {}", &["`signal: Signal`"]),
            ("#[message] fn b(&mut self) {} #[signal] fn c(&mut self, s: &Signal) {}", &["`signal: Signal`"]),
            (
                "#[message] fn b(&mut self) {} #[signal] fn c(&mut self, s: Signal) -> u8 {}",
                &["`Result<(), ActorError>`"],
            ),
            (
                "#[message] fn b(&mut self) {} #[signal] fn c(&mut self, s: Signal) {} #[signal] fn d(&mut self, s: Signal) {}",
                &["one `#[signal]`"],
            ),
            ("#[message] const B: u8 = 0; #[message] fn b(&mut self) {}", &["a method"]),
            (
                "#[message] fn b(self, c: &str) {} #[message] fn d() {}",
                &["`&mut self`", "`String`", "`&mut self`"],
            ),
        ] {
            check("", &format!("impl A {{ {method} }}"), expected);
        }
    }
}
