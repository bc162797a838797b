//! What an `impl` block says about the actor's messages.

use std::collections::HashMap;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, FnArg, GenericArgument, ImplItem, ImplItemFn, ItemImpl, LitStr, Pat, Path, PathArguments,
    ReceiverKind, ReturnType, Safety, Signature, Token, Type, Visibility, parse_quote,
};

use crate::faults::Faults;
use crate::options::{self, Root};

const KNOWN: &str = "`manifest = \"name@1\"`, `message = EnumName`, `handle = TraitName`, `vis = pub(crate)`, \
                     `derive(..)` and `crate = path::to::nexus_actor`";
const KNOWN_MESSAGE: &str = "`name = VariantName`, `ask` and `local`";

/// Methods a handle cannot have, since a reference has its own of that name: they would win, or be ambiguous.
const RESERVED: [&str; 26] = [
    "adapt",
    "ask",
    "borrow",
    "borrow_mut",
    "clone",
    "clone_from",
    "eq",
    "fmt",
    "hash",
    "into",
    "is_local",
    "is_terminated",
    "mailbox_len",
    "ne",
    "path",
    "send",
    "serialize",
    "stop",
    "stopped",
    "tell",
    "to_any",
    "to_owned",
    "to_string",
    "try_into",
    "try_tell",
    "try_tell_with",
];

/// Generated `tell_` methods that a reference has already.
const RESERVED_TELL: [&str; 1] = ["with_headers"];

#[derive(Default)]
pub(super) struct Options {
    manifest: Option<LitStr>,
    message: Option<Ident>,
    handle: Option<Ident>,
    vis: Option<Visibility>,
    derives: Vec<Path>,
    krate: Option<Path>,
}

impl Options {
    pub(super) fn read(arguments: TokenStream) -> syn::Result<Self> {
        let mut read = Self::default();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("manifest") {
                options::set_manifest(&mut read.manifest, &meta)
            } else if meta.path.is_ident("message") {
                options::set(&mut read.message, &meta)
            } else if meta.path.is_ident("handle") {
                options::set(&mut read.handle, &meta)
            } else if meta.path.is_ident("crate") {
                options::set(&mut read.krate, &meta)
            } else if meta.path.is_ident("vis") {
                options::set(&mut read.vis, &meta)?;
                match read.vis {
                    Some(Visibility::Inherited) => {
                        Err(meta.error("write `vis = pub(crate)`, or `vis = pub(self)` for this module only"))
                    }
                    _ => Ok(()),
                }
            } else if meta.path.is_ident("derive") {
                let paths;
                syn::parenthesized!(paths in meta.input);
                read.derives.extend(Punctuated::<Path, Token![,]>::parse_terminated(&paths)?);
                Ok(())
            } else {
                Err(options::unknown(&meta, KNOWN))
            }
        });
        parser.parse2(arguments)?;
        Ok(read)
    }
}

/// Everything the expansion needs.
pub(super) struct Model {
    pub(super) root: Root,
    pub(super) state: Type,
    pub(super) message: Ident,
    pub(super) handle: Ident,
    pub(super) vis: Visibility,
    pub(super) derives: Vec<Path>,
    pub(super) manifest: Option<LitStr>,
    /// Those for this process only stand last: serde numbers variants after a skipped one inconsistently.
    pub(super) messages: Vec<Message>,
    pub(super) signal: Option<Handler>,
}

/// A function that handles something.
pub(super) struct Handler {
    pub(super) ident: Ident,
    pub(super) is_async: bool,
    pub(super) arguments: Vec<Argument>,
    /// Whether it returns `Result<_, ActorError>`.
    pub(super) is_fallible: bool,
}

pub(super) enum Argument {
    Context,
    Reply(Ident),
    Field(Ident, Box<Type>),
}

pub(super) struct Message {
    pub(super) handler: Handler,
    pub(super) variant: Ident,
    pub(super) kind: Kind,
    pub(super) is_local: bool,
    /// Doc comments.
    pub(super) docs: Vec<Attribute>,
    /// Conditions under which the method, and so its message, exists.
    pub(super) cfgs: Vec<Attribute>,
}

pub(super) enum Kind {
    Tell,
    /// The handler returns the answer.
    Ask(Type),
    /// The handler takes the `Reply` and answers when it likes.
    Deferred(Ident, Type),
}

impl Message {
    /// The fields the sender fills in.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&Ident, &Type)> {
        self.handler.arguments.iter().filter_map(|argument| match argument {
            Argument::Field(name, ty) => Some((name, &**ty)),
            Argument::Context | Argument::Reply(_) => None,
        })
    }

    /// The name of the method that does not wait.
    pub(super) fn tell_ident(&self) -> Ident {
        format_ident!("tell_{}", self.handler.ident.unraw(), span = self.handler.ident.span())
    }
}

impl Model {
    pub(super) fn read(options: Options, block: &ItemImpl) -> syn::Result<Self> {
        let mut faults = Faults::default();
        let base = check_block(block, &mut faults);
        let reader = Reader { state: block.self_ty.to_token_stream(), is_wire: options.manifest.is_some() };
        let (mut messages, mut signal) = (Vec::new(), None);
        let mut has_message = false;
        for item in &block.items {
            let ImplItem::Fn(function) = item else {
                let marks = attributes(item).iter().filter(|a| is_mark(a));
                marks.for_each(|mark| faults.add(mark, "this attribute belongs above a method"));
                continue;
            };
            let marks: Vec<&Attribute> = function.attrs.iter().filter(|a| is_mark(a)).collect();
            match marks[..] {
                [] => {}
                [mark] if mark.path().is_ident("message") => {
                    has_message = true;
                    match reader.message(mark, function) {
                        Ok(message) => messages.push(message),
                        Err(error) => faults.push(error),
                    }
                }
                [mark] => match reader.signal(mark, function) {
                    Ok(_) if signal.is_some() => {
                        faults
                            .add(mark, "an actor has one `#[signal]` method: match on the signal inside it");
                    }
                    Ok(handler) => signal = Some(handler),
                    Err(error) => faults.push(error),
                },
                [_, second, ..] => {
                    has_message = true;
                    faults.add(
                        second,
                        "a method handles one `#[message]` or is the `#[signal]` method, not both",
                    );
                }
            }
        }
        if !has_message {
            faults.add(
                &block.self_ty,
                "this actor takes no messages: put `#[message]` above each method that handles one, \
                 as in `#[message] fn add(&mut self, by: i64) { .. }`",
            );
        }
        check_names(&messages, &mut faults);
        faults.finish()?;
        messages.sort_by_key(|message| message.is_local);
        let base = base.unwrap_or_else(|| Ident::new("Actor", Span::call_site()));
        Ok(Self {
            root: Root::new(options.krate),
            state: (*block.self_ty).clone(),
            message: options.message.unwrap_or_else(|| format_ident!("{base}Msg")),
            handle: options.handle.unwrap_or_else(|| format_ident!("{base}Ref")),
            vis: options.vis.unwrap_or_else(|| parse_quote!(pub)),
            derives: options.derives,
            manifest: options.manifest,
            messages,
            signal,
        })
    }
}

fn attributes(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        ImplItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

fn is_mark(attribute: &Attribute) -> bool {
    attribute.path().is_ident("message") || attribute.path().is_ident("signal")
}

/// The name the generated ones are made of.
fn check_block(block: &ItemImpl, faults: &mut Faults) -> Option<Ident> {
    if let Some((path, _)) = &block.trait_ {
        faults
            .add(path, "`#[actor]` stands above an `impl` block of the state itself, not of a trait for it");
    }
    if !block.generics.params.is_empty() {
        faults.add(
            &block.generics,
            "`#[actor]` cannot do a generic actor, since its messages would need the same parameters: write the \
             message enum and `impl Actor` by hand (the documentation of `#[actor]` shows them), or give the \
             parameters types here, as in `impl Store<String> { .. }`",
        );
        return None;
    }
    let Type::Path(path) = &*block.self_ty else {
        faults.add(&block.self_ty, "an actor's state is a struct or an enum, a type of yours");
        return None;
    };
    if let Some(fault) = borrow(&block.self_ty) {
        faults.push(fault);
    }
    path.path.segments.last().map(|segment| segment.ident.unraw())
}

/// Refuses names that would be generated twice or hide something.
fn check_names(messages: &[Message], faults: &mut Faults) {
    let mut variants: HashMap<String, &Message> = HashMap::new();
    let mut tells: HashMap<String, &Message> = HashMap::new();
    for message in messages {
        let before = variants.entry(message.variant.to_string()).or_insert(message);
        // Of two methods under conditions at most one is meant to exist; rustc says so if both do.
        if !core::ptr::eq(*before, message) && (before.cfgs.is_empty() || message.cfgs.is_empty()) {
            let (one, other, variant) = (&before.handler.ident, &message.handler.ident, &message.variant);
            faults.add(
                other,
                &format!(
                    "`{one}` and `{other}` both become the variant `{variant}`: rename one, \
                     or write `#[message(name = OtherName)]`"
                ),
            );
        }
        if matches!(message.kind, Kind::Tell) {
            tells.insert(message.tell_ident().to_string(), message);
        }
    }
    for message in messages {
        let ident = &message.handler.ident;
        let name = ident.unraw().to_string();
        if RESERVED.contains(&name.as_str()) {
            faults.add(
                ident,
                &format!(
                    "every `ActorRef` has a method `{name}` already, which would hide this one: rename it"
                ),
            );
        } else if RESERVED_TELL.contains(&name.as_str()) && matches!(message.kind, Kind::Tell) {
            faults.add(
                ident,
                &format!(
                    "every `ActorRef` has a method `tell_{name}`, the name generated for this one: rename it"
                ),
            );
        } else if let Some(other) = tells.get(&name) {
            let other = &other.handler.ident;
            faults.add(
                ident,
                &format!("a method `{name}` is generated for `{other}` already: rename this one"),
            );
        }
    }
}

struct Reader {
    state: TokenStream,
    is_wire: bool,
}

impl Reader {
    fn message(&self, mark: &Attribute, function: &ImplItemFn) -> syn::Result<Message> {
        let mut faults = Faults::default();
        let (mut name, mut is_ask, mut is_local) = (None, false, false);
        if !matches!(mark.meta, syn::Meta::Path(_)) {
            mark.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    options::set(&mut name, &meta)
                } else if meta.path.is_ident("ask") {
                    options::set_flag(&mut is_ask, &meta)
                } else if meta.path.is_ident("local") {
                    options::set_flag(&mut is_local, &meta)
                } else {
                    Err(options::unknown(&meta, KNOWN_MESSAGE))
                }
            })?;
        }
        if is_local && !self.is_wire {
            faults.add(
                mark,
                "without a manifest every message stays in this process: remove `local`, \
                 or name the messages with `#[actor(manifest = \"name@1\")]`",
            );
        }
        let signature = &function.sig;
        let ident = signature.ident.clone();
        check_signature(signature, &mut faults);
        let (arguments, reply) = self.arguments(signature, &mut faults);
        let returned = self.returned(signature, &mut faults);
        let kind = match (reply, returned.answer) {
            (Some((at, _)), Some(_)) => {
                faults.add(
                    &at,
                    "either return the answer or take a `Reply` to send it later: remove this argument or the return type",
                );
                Kind::Tell
            }
            (Some((at, ty)), None) => Kind::Deferred(at, ty),
            (None, Some(answer)) => {
                if is_ask {
                    faults.add(mark, "a method that returns an answer is an ask already: remove `ask`");
                }
                Kind::Ask(answer)
            }
            (None, None) if is_ask => Kind::Ask(parse_quote!(())),
            (None, None) => Kind::Tell,
        };
        if matches!(kind, Kind::Ask(_)) {
            let clashing = arguments.iter().find_map(|argument| match argument {
                Argument::Field(name, _) if name == "reply" => Some(name),
                _ => None,
            });
            if let Some(name) = clashing {
                faults.add(
                    name,
                    "the message of an ask has a field `reply` for its answer: rename this argument",
                );
            }
        }
        let variant = match name.map_or_else(|| variant_of(&ident), Ok) {
            Ok(variant) => variant,
            Err(error) => {
                faults.push(error);
                ident.clone()
            }
        };
        faults.finish()?;
        let select = |name| function.attrs.iter().filter(move |a| a.path().is_ident(name)).cloned().collect();
        Ok(Message {
            handler: Handler {
                ident,
                is_async: signature.asyncness.is_some(),
                arguments,
                is_fallible: returned.is_fallible,
            },
            variant,
            kind,
            is_local,
            docs: select("doc"),
            cfgs: select("cfg"),
        })
    }

    fn signal(&self, mark: &Attribute, function: &ImplItemFn) -> syn::Result<Handler> {
        const SHAPE: &str = "the `#[signal]` method takes `signal: Signal`, by value, and if it likes `cx: &mut Context<'_, Self>`";
        let mut faults = Faults::default();
        if !matches!(mark.meta, syn::Meta::Path(_)) {
            faults.add(mark, "`#[signal]` takes no arguments");
        }
        let signature = &function.sig;
        check_signature(signature, &mut faults);
        let mut arguments = Vec::new();
        for input in signature.inputs.iter() {
            let FnArg::Typed(input) = input else { continue };
            if is_context(&input.ty) {
                arguments.push(Argument::Context);
            } else if matches!(&*input.ty, Type::Reference(_)) {
                faults.add(&input.ty, SHAPE);
                return Err(finished(faults));
            } else {
                let name = Ident::new("signal", Span::mixed_site());
                arguments.push(Argument::Field(name, input.ty.clone()));
            }
        }
        let contexts = arguments.iter().filter(|argument| matches!(argument, Argument::Context)).count();
        if arguments.len() - contexts != 1 || contexts > 1 {
            faults.add(&signature.ident, SHAPE);
        }
        let returned = self.returned(signature, &mut faults);
        if returned.answer.is_some() {
            faults.add(
                &signature.output,
                "nobody asked for a signal: return nothing, or `Result<(), ActorError>` to fail",
            );
        }
        faults.finish()?;
        Ok(Handler {
            ident: signature.ident.clone(),
            is_async: signature.asyncness.is_some(),
            arguments,
            is_fallible: returned.is_fallible,
        })
    }

    fn arguments(
        &self,
        signature: &Signature,
        faults: &mut Faults,
    ) -> (Vec<Argument>, Option<(Ident, Type)>) {
        let (mut arguments, mut reply) = (Vec::new(), None);
        let mut has_context = false;
        for input in &signature.inputs {
            let FnArg::Typed(input) = input else { continue };
            if is_context(&input.ty) {
                if core::mem::replace(&mut has_context, true) {
                    faults.add(input, "a handler takes one context: remove this argument");
                }
                arguments.push(Argument::Context);
                continue;
            }
            let name = match &*input.pat {
                Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => &pat.ident,
                other => {
                    faults.add(
                        other,
                        "an argument becomes a field of the message, so it needs a name: take it by name \
                         and take it apart inside the method",
                    );
                    continue;
                }
            };
            if let Some(fault) = borrow(&input.ty) {
                faults.push(fault);
            }
            let ty = self.without_self(&input.ty);
            if is_named(&ty, "Reply") {
                if reply.is_some() {
                    faults.add(input, "a message carries one `Reply`: it travels in the envelope");
                }
                arguments.push(Argument::Reply(name.clone()));
                reply = Some((name.clone(), ty));
            } else {
                arguments.push(Argument::Field(name.clone(), Box::new(ty)));
            }
        }
        (arguments, reply)
    }

    fn returned(&self, signature: &Signature, faults: &mut Faults) -> Returned {
        let ReturnType::Type(_, ty) = &signature.output else {
            return Returned { answer: None, is_fallible: false };
        };
        if let Some(fault) = borrow(ty) {
            faults.push(fault);
        }
        let ty = self.without_self(ty);
        let (answer, is_fallible) = match fallible(&ty) {
            Some(inner) => (inner, true),
            None => (ty, false),
        };
        let is_unit = matches!(&answer, Type::Tuple(tuple) if tuple.elems.is_empty());
        Returned { answer: (!is_unit).then_some(answer), is_fallible }
    }

    /// `Self` in the enum would be the enum.
    fn without_self(&self, ty: &Type) -> Type {
        fn replace(tokens: TokenStream, state: &TokenStream) -> TokenStream {
            let one = |token| match token {
                TokenTree::Ident(ident) if ident == "Self" => state.clone(),
                TokenTree::Group(group) => {
                    let mut new = proc_macro2::Group::new(group.delimiter(), replace(group.stream(), state));
                    new.set_span(group.span());
                    TokenTree::Group(new).into()
                }
                other => other.into(),
            };
            tokens.into_iter().map(one).collect::<Vec<TokenStream>>().into_iter().collect()
        }
        let replaced = replace(ty.to_token_stream(), &self.state);
        // A type stays one when a path in it is exchanged for a path.
        syn::parse2(replaced).unwrap_or_else(|_| ty.clone())
    }
}

struct Returned {
    /// What is sent back; nothing for `()`.
    answer: Option<Type>,
    is_fallible: bool,
}

fn finished(faults: Faults) -> syn::Error {
    faults.finish().err().unwrap_or_else(|| syn::Error::new(Span::call_site(), "no fault"))
}

fn check_signature(signature: &Signature, faults: &mut Faults) {
    let takes_reference = signature
        .receiver()
        .is_some_and(|receiver| matches!(receiver.kind, ReceiverKind::Reference(_, _, _)));
    if !takes_reference {
        const WHY: &str = "a handler borrows the actor, which goes on living after the message: \
                           write `&mut self` (or `&self`) as the first argument";
        match signature.inputs.first() {
            Some(first) => faults.add(first, WHY),
            None => faults.add(&signature.ident, WHY),
        }
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        let at = if signature.generics.params.is_empty() {
            signature.generics.where_clause.to_token_stream()
        } else {
            signature.generics.params.to_token_stream()
        };
        faults.add(
            at,
            "a handler cannot be generic, since its message is one variant of one enum: name the types",
        );
    }
    if !matches!(signature.safety, Safety::Default) || signature.abi.is_some() {
        faults.add(&signature.ident, "a handler is a plain `fn` or `async fn`, neither unsafe nor extern");
    }
}

/// `add_item` becomes `AddItem`.
fn variant_of(method: &Ident) -> syn::Result<Ident> {
    let method_name = method.unraw().to_string();
    let mut name = String::with_capacity(method_name.len());
    for part in method_name.split('_') {
        let mut letters = part.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.push_str(letters.as_str());
    }
    match syn::parse_str::<Ident>(&name) {
        Ok(mut ident) => {
            ident.set_span(method.span());
            Ok(ident)
        }
        Err(_) => Err(syn::Error::new(
            method.span(),
            format!("no variant can be named after `{method}`: write `#[message(name = VariantName)]`"),
        )),
    }
}

/// The error for a type that borrows or has no name, if it is one.
fn borrow(ty: &Type) -> Option<syn::Error> {
    match ty {
        Type::Reference(reference) => match &reference.lifetime {
            Some(lifetime) if lifetime.ident == "static" => None,
            _ => {
                let advice = match &*reference.elem {
                    Type::Path(path) if path.path.is_ident("str") => "take `String` instead of `&str`",
                    Type::Slice(_) => "take `Vec<T>` instead of `&[T]`",
                    _ => "take it by value",
                };
                let why = format!(
                    "a message outlives its sender and an answer its actor, so they cannot borrow: {advice}"
                );
                Some(syn::Error::new_spanned(ty, why))
            }
        },
        Type::Path(path) => path.path.segments.iter().find_map(|segment| match &segment.arguments {
            PathArguments::AngleBracketed(arguments) => {
                arguments.args.iter().find_map(|argument| match argument {
                    GenericArgument::Type(ty) => borrow(ty),
                    GenericArgument::Lifetime(lifetime) if lifetime.ident != "static" => {
                        Some(syn::Error::new_spanned(
                            ty,
                            "what an actor holds, takes or answers outlives the call, so it cannot borrow: \
                     use a type that owns its data, or `'static`",
                        ))
                    }
                    _ => None,
                })
            }
            _ => None,
        }),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(borrow),
        Type::Array(array) => borrow(&array.elem),
        Type::Paren(paren) => borrow(&paren.elem),
        Type::Group(group) => borrow(&group.elem),
        Type::ImplTrait(_) | Type::Infer(_) => Some(syn::Error::new_spanned(
            ty,
            "an argument becomes a field and an answer the type of a `Reply`, so name the type",
        )),
        // A function pointer or a trait object may speak of borrows without borrowing.
        _ => None,
    }
}

/// Whether this is `&mut Context<..>`.
fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if is_named(&reference.elem, "Context"))
}

/// Whether the type's last name is this one and it has parameters.
fn is_named(ty: &Type, name: &str) -> bool {
    last_arguments(ty, name).is_some_and(|arguments| !arguments.is_empty())
}

/// What `Result<T, ActorError>` holds.
fn fallible(ty: &Type) -> Option<Type> {
    let arguments = last_arguments(ty, "Result")?;
    match arguments[..] {
        [GenericArgument::Type(inner), GenericArgument::Type(error)] => {
            last_arguments(error, "ActorError").map(|_| inner.clone())
        }
        _ => None,
    }
}

/// The parameters of a path that ends in `name`.
fn last_arguments<'t>(ty: &'t Type, name: &str) -> Option<Vec<&'t GenericArgument>> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    Some(match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().collect(),
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::{RESERVED, RESERVED_TELL, last_arguments, variant_of};
    use quote::format_ident;

    /// A method that `ActorRef` gains hides a generated one of its name, so it must be refused here.
    #[test]
    fn every_method_of_a_reference_is_reserved() {
        let source = include_str!("../../../nexus-actor-core/src/actor_ref.rs");
        let file = syn::parse_file(source).unwrap();
        let mut count = 0;
        for item in &file.items {
            let syn::Item::Impl(block) = item else { continue };
            if block.trait_.is_some() || last_arguments(&block.self_ty, "ActorRef").is_none() {
                continue;
            }
            for item in &block.items {
                let syn::ImplItem::Fn(function) = item else { continue };
                if !matches!(function.vis, syn::Visibility::Public(_)) {
                    continue;
                }
                let name = function.sig.ident.to_string();
                let is_tell = name.strip_prefix("tell_").is_some_and(|rest| RESERVED_TELL.contains(&rest));
                assert!(is_tell || RESERVED.contains(&name.as_str()), "{name} is missing");
                count += 1;
            }
        }
        assert!(count >= 10, "the methods of ActorRef have moved");
    }

    #[test]
    fn variants() {
        for (method, expected) in [
            ("add", Some("Add")),
            ("add_item", Some("AddItem")),
            ("r#type", Some("Type")),
            ("_a__b2_", Some("AB2")),
            ("addItem", Some("AddItem")),
            ("_1", None),
            ("__", None),
            ("self_", None),
        ] {
            let method = match method.strip_prefix("r#") {
                Some(raw) => proc_macro2::Ident::new_raw(raw, proc_macro2::Span::call_site()),
                None => format_ident!("{method}"),
            };
            assert_eq!(variant_of(&method).ok().map(|v| v.to_string()).as_deref(), expected, "{method}");
        }
    }
}
