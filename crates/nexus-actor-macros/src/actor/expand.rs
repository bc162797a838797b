//! The code that `#[actor]` writes.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Type, parse_quote};

use super::model::{Argument, Handler, Kind, Message, Model};
use crate::message;

pub(super) fn expand(model: &Model) -> TokenStream {
    let (messages, actor, handle) = (messages(model), actor(model), handle(model));
    quote!(#messages #actor #handle)
}

/// The enum, and what makes it cross a wire.
fn messages(model: &Model) -> TokenStream {
    let private = model.root.private();
    let Model { message: name, vis, derives, state, .. } = model;
    let doc = format!("The messages that `{}` takes.", plain(state));
    let variants = model.messages.iter().map(|message| {
        let Message { variant, cfgs, docs, .. } = message;
        let docs = docs_or(docs, &format!("Handled by `{}`.", message.handler.ident));
        let skip = message.is_local.then(|| quote!(#[serde(skip)]));
        let mut fields: Vec<TokenStream> =
            message.fields().map(|(name, ty)| field(&format!("The argument `{name}`."), name, ty)).collect();
        match &message.kind {
            Kind::Tell => {}
            Kind::Ask(answer) => {
                let name = Ident::new("reply", answer.span());
                let ty = parse_quote!(#private::Reply<#answer>);
                fields.push(field_at(answer.span(), ANSWER, &name, &ty));
            }
            Kind::Deferred(name, ty) => fields.push(field(ANSWER, name, ty)),
        }
        let fields = (!fields.is_empty()).then(|| quote!({ #(#fields),* }));
        quote!(#docs #(#cfgs)* #skip #variant #fields)
    });
    let serde = model.manifest.as_ref().map(|_| {
        let path = quote!(#private::serde).to_string().replace(' ', "");
        quote! {
            #[derive(#private::serde::Serialize, #private::serde::Deserialize)]
            #[serde(crate = #path)]
        }
    });
    // What cannot be in a message would be reported at the attribute; this says the same at the user's type.
    let checks = model.messages.iter().map(|message| {
        let cfgs = &message.cfgs;
        let is_wire = model.manifest.is_some() && !message.is_local;
        let check = if is_wire { quote!(crosses_a_wire) } else { quote!(is_sent) };
        let answer = match &message.kind {
            Kind::Ask(answer) | Kind::Deferred(_, answer) => Some(answer),
            Kind::Tell => None,
        };
        let types = message.fields().map(|(_, ty)| ty).chain(answer);
        let calls = types.map(|ty| quote_spanned!(ty.span()=> #private::#check::<#ty>();));
        quote!(#(#cfgs)* { #(#calls)* })
    });
    let derives = (!derives.is_empty()).then(|| quote!(#[derive(#(#derives),*)]));
    let message = model
        .manifest
        .as_ref()
        .map(|manifest| message::implementation(&model.root, name, &syn::Generics::default(), manifest));
    quote! {
        const _: () = { #(#checks)* };

        #[doc = #doc]
        #derives
        #serde
        #[allow(private_interfaces)]
        #vis enum #name {
            #(#variants,)*
        }

        #message
    }
}

const ANSWER: &str = "Takes the answer.";

fn field(doc: &str, name: &Ident, ty: &Type) -> TokenStream {
    field_at(ty.span(), doc, name, ty)
}

/// Serde reports a field that it cannot write or read where the field begins: here, at the user's type.
fn field_at(at: Span, doc: &str, name: &Ident, ty: &Type) -> TokenStream {
    let doc = quote_spanned!(at=> #[doc = #doc]);
    quote!(#doc #name: #ty)
}

fn actor(model: &Model) -> TokenStream {
    let private = model.root.private();
    let Model { message: name, state, .. } = model;
    // A local that the user's fields cannot shadow.
    let cx = Ident::new("cx", Span::mixed_site());
    let any_uses = model.messages.iter().any(|message| uses_context(&message.handler));
    let parameter = if any_uses { cx.clone() } else { Ident::new("_cx", Span::mixed_site()) };
    let arms = model.messages.iter().map(|message| {
        let Message { variant, cfgs, handler, .. } = message;
        let mut fields: Vec<&Ident> = message.fields().map(|(name, _)| name).collect();
        let reply = Ident::new("reply", variant.span());
        let call = call(handler, &cx);
        let body = match &message.kind {
            Kind::Tell if handler.is_fallible => call,
            Kind::Tell => quote!({ #call; ::core::result::Result::Ok(()) }),
            Kind::Deferred(name, _) => {
                fields.push(name);
                if handler.is_fallible { call } else { quote!({ #call; ::core::result::Result::Ok(()) }) }
            }
            Kind::Ask(_) => {
                fields.push(&reply);
                let fail = handler.is_fallible.then(|| quote!(?));
                quote!({ #reply.send(#call #fail); ::core::result::Result::Ok(()) })
            }
        };
        let fields = (!fields.is_empty()).then(|| quote!({ #(#fields),* }));
        quote!(#(#cfgs)* #name::#variant #fields => #body)
    });
    let signal = model.signal.as_ref().map(|handler| {
        let signal = Ident::new("signal", Span::mixed_site());
        let parameter =
            if uses_context(handler) { cx.clone() } else { Ident::new("_cx", Span::mixed_site()) };
        let call = call(handler, &cx);
        let body = if handler.is_fallible { call } else { quote!(#call; ::core::result::Result::Ok(())) };
        quote! {
            async fn signal(
                &mut self,
                #signal: #private::Signal,
                #parameter: &mut #private::Context<'_, Self>,
            ) -> ::core::result::Result<(), #private::ActorError> {
                #body
            }
        }
    });
    quote! {
        impl #private::Actor for #state {
            type Msg = #name;

            async fn receive(
                &mut self,
                message: #name,
                #parameter: &mut #private::Context<'_, Self>,
            ) -> ::core::result::Result<(), #private::ActorError> {
                match message {
                    #(#arms,)*
                }
            }

            #signal
        }
    }
}

/// The typed methods, as a trait since an inherent `impl` of a foreign type is not possible.
fn handle(model: &Model) -> TokenStream {
    let private = model.root.private();
    let Model { message: name, handle, vis, state, .. } = model;
    let doc = format!("What can be told to and asked of `{}`, on a reference to it.", plain(state));
    let (mut declared, mut defined) = (Vec::new(), Vec::new());
    for message in &model.messages {
        let Message { variant, cfgs, handler, .. } = message;
        let ident = &handler.ident;
        let parameters: Vec<TokenStream> = message.fields().map(|(name, ty)| quote!(#name: #ty)).collect();
        let fields: Vec<&Ident> = message.fields().map(|(name, _)| name).collect();
        let docs = docs_or(&message.docs, &format!("Sends `{name}::{variant}`."));
        let build = |extra: Option<TokenStream>| {
            let all = fields.iter().map(|field| quote!(#field)).chain(extra);
            let all: Vec<TokenStream> = all.collect();
            if all.is_empty() { quote!(#name::#variant) } else { quote!(#name::#variant { #(#all),* }) }
        };
        let mut method = |docs: TokenStream, signature: TokenStream, body: TokenStream| {
            declared.push(quote!(#docs #(#cfgs)* #signature;));
            defined.push(quote!(#(#cfgs)* #signature { #body }));
        };
        match &message.kind {
            Kind::Tell => {
                let build = build(None);
                let more = "\n\nWaits for room in a full mailbox or lane; the message comes back when waiting is of no use.";
                method(
                    quote!(#docs #[doc = #more]),
                    quote_spanned!(ident.span()=> fn #ident(&self, #(#parameters),*) -> #private::Sending<'_, #name>),
                    quote!(self.send(#build)),
                );
                let tell = message.tell_ident();
                let doc = format!(
                    "[`{ident}`](Self::{ident}) that never waits: what is not accepted becomes a dead letter."
                );
                method(
                    quote!(#[doc = #doc]),
                    quote_spanned!(ident.span()=> fn #tell(&self, #(#parameters),*)),
                    quote!(self.tell(#build)),
                );
            }
            Kind::Ask(answer) => {
                let build = build(Some(quote!(reply)));
                method(
                    docs,
                    quote_spanned!(ident.span()=> fn #ident(&self, #(#parameters),*) -> #private::Ask<#answer>),
                    quote!(self.ask(move |reply| #build)),
                );
            }
            Kind::Deferred(field, ty) => {
                let build = build(Some(quote!(#field)));
                let answer = answer_of(ty);
                method(
                    docs,
                    quote_spanned!(ident.span()=> fn #ident(&self, #(#parameters),*) -> #private::Ask<#answer>),
                    quote!(self.ask(move |#field| #build)),
                );
            }
        }
    }
    quote! {
        #[doc = #doc]
        #[allow(dead_code, private_interfaces, clippy::all)]
        #vis trait #handle {
            #(#declared)*
        }

        #[allow(clippy::all)]
        impl #handle for #private::ActorRef<#name> {
            #(#defined)*
        }
    }
}

fn call(handler: &Handler, cx: &Ident) -> TokenStream {
    let ident = &handler.ident;
    let arguments = handler.arguments.iter().map(|argument| match argument {
        Argument::Context => cx,
        Argument::Reply(name) | Argument::Field(name, _) => name,
    });
    let wait = handler.is_async.then(|| quote!(.await));
    quote_spanned!(ident.span()=> Self::#ident(self, #(#arguments),*)#wait)
}

fn uses_context(handler: &Handler) -> bool {
    handler.arguments.iter().any(|argument| matches!(argument, Argument::Context))
}

/// The `T` of a `Reply<T>`.
fn answer_of(reply: &Type) -> Type {
    if let Type::Path(path) = reply
        && let Some(last) = path.path.segments.last()
        && let syn::PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(syn::GenericArgument::Type(answer)) = arguments.args.first()
    {
        return answer.clone();
    }
    parse_quote!(())
}

fn docs_or(docs: &[syn::Attribute], otherwise: &str) -> TokenStream {
    if docs.is_empty() { quote!(#[doc = #otherwise]) } else { quote!(#(#docs)*) }
}

fn plain(ty: &Type) -> String {
    quote!(#ty).to_string().replace(' ', "")
}
