//! The protobuf half of `#[derive(Message)]`: which variant is which protobuf message.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Fields, GenericArgument, Generics, PathArguments, Type, WherePredicate,
    parse_quote,
};

use crate::faults::Faults;
use crate::options;

const SHAPES: &str = "a message of the protobuf wire is `V(P)`, a question `V(P, Reply<T>)` or `V(Reply<T>)`, with `P` \
                      and `T` protobuf messages";

/// What the codec is written from.
pub(crate) struct Forms {
    forms: Vec<Form>,
    /// Whether there are variants that never cross this wire.
    natives: Vec<Ident>,
    json: bool,
}

/// One variant, or the struct.
struct Form {
    /// `None` for a struct.
    variant: Option<Ident>,
    payload: Option<Type>,
    /// What its `Reply` is of.
    answer: Option<Type>,
    /// The field with the `Reply`.
    reply: Option<Type>,
}

impl Form {
    /// The words of the payload's type, for comparison.
    fn payload_text(&self) -> String {
        self.payload.as_ref().map_or_else(|| "()".into(), |payload| payload.to_token_stream().to_string())
    }
}

impl Forms {
    /// Reads the variants and reports those that do not fit.
    pub(crate) fn read(input: &DeriveInput, json: bool, faults: &mut Faults) -> Self {
        let mut all = Self { forms: Vec::new(), natives: Vec::new(), json };
        match &input.data {
            Data::Struct(data) => {
                if let Some(form) = read(None, &input.ident, &data.fields, faults) {
                    all.forms.push(form);
                }
            }
            Data::Enum(data) => {
                for variant in &data.variants {
                    if is_native(&variant.attrs, faults) {
                        all.natives.push(variant.ident.clone());
                    } else if let Some(form) =
                        read(Some(variant.ident.clone()), &variant.ident, &variant.fields, faults)
                    {
                        if let Some(other) = all.forms.iter().find(|other| {
                            other.answer.is_some() == form.answer.is_some()
                                && other.payload_text() == form.payload_text()
                        }) {
                            let first = other.variant.as_ref().map(ToString::to_string).unwrap_or_default();
                            faults.add(
                                &variant.ident,
                                &format!(
                                    "`{first}` and `{}` are both `{}` {} a `Reply`, so a payload does not tell which \
                                     it is: give one of them another type, or mark it `#[message(native)]`",
                                    variant.ident,
                                    form.payload_text(),
                                    if form.answer.is_some() { "with" } else { "without" },
                                ),
                            );
                        }
                        all.forms.push(form);
                    }
                }
                if all.natives.len() == data.variants.len() {
                    faults.add(
                        &input.ident,
                        "no variant crosses the protobuf wire: remove `protobuf` above the type, or \
                         `#[message(native)]` from a variant",
                    );
                }
            }
            // Refused elsewhere.
            Data::Union(_) => {}
        }
        all
    }

    /// `const PROTOBUF`.
    pub(crate) fn constant(&self, private: &TokenStream) -> TokenStream {
        let forms = self.forms.iter().map(|form| {
            let payload = form.payload.clone().unwrap_or_else(|| parse_quote!(()));
            let make = if form.answer.is_some() { quote!(ask_of) } else { quote!(tell_of) };
            quote_spanned!(payload.span()=> #private::ProtobufForm::#make::<#payload>())
        });
        let writes = self.forms.iter().map(|form| self.write(form));
        let natives = self.natives.iter().map(|variant| {
            let name = variant.to_string();
            quote!(Self::#variant { .. } => ::core::result::Result::Err(#private::native_only::<Self>(#name)),)
        });
        let exact = self.forms.iter().map(|form| self.read_if(form, private, &quote!(==)));
        let other = self.forms.iter().map(|form| self.read_if(form, private, &quote!(!=)));
        let with = if self.json { quote!(with_json) } else { quote!(with_protobuf) };
        quote! {
            const PROTOBUF: ::core::option::Option<#private::ProtobufCodec<Self>> = #private::#with! {
                ::core::option::Option::Some(#private::ProtobufCodec {
                    forms: const { &[#(#forms),*] },
                    encode: |message, encoder| match message {
                        #(#writes)*
                        #(#natives)*
                    },
                    decode: |named| {
                        // A payload with a sender is the variant with a `Reply` where both are there.
                        #(#exact)*
                        #(#other)*
                        ::core::result::Result::Err(named.unknown::<Self>())
                    },
                })
            };
        }
    }

    fn write(&self, form: &Form) -> TokenStream {
        let path = path(form);
        let lift = if self.json { quote!(reply_protobuf_or_json) } else { quote!(reply_protobuf) };
        // An error about a type points to where the type is named.
        let put = form.payload.as_ref().map(|ty| quote_spanned!(ty.span()=> encoder.protobuf(payload)));
        let lift = form.reply.as_ref().map(|ty| quote_spanned!(ty.span()=> encoder.#lift(reply)));
        match (put, lift) {
            (Some(put), None) => quote!(#path(payload) => #put,),
            (Some(put), Some(lift)) => quote!(#path(payload, reply) => #put.and_then(|()| #lift),),
            (None, lift) => quote!(#path(reply) => encoder.protobuf(&()).and_then(|()| #lift),),
        }
    }

    fn read_if(&self, form: &Form, private: &TokenStream, relation: &TokenStream) -> TokenStream {
        let path = path(form);
        let asks = form.answer.is_some();
        let payload = form.payload.clone().unwrap_or_else(|| parse_quote!(()));
        let read = if self.json { quote!(protobuf_or_json) } else { quote!(protobuf) };
        let read = quote_spanned!(payload.span()=> named.#read::<#payload>());
        let reply = form.reply.as_ref().map(|ty| quote_spanned!(ty.span()=> #private::Reply::protobuf()));
        let build = match (&form.payload, reply) {
            (Some(_), None) => quote!(#path),
            (None, reply) => quote!(|()| #path(#reply)),
            (Some(_), Some(reply)) => quote!(|payload| #path(payload, #reply)),
        };
        quote! {
            if named.has_sender #relation #asks && named.is::<#payload>() {
                return #read.map(#build);
            }
        }
    }

    /// The bounds that a generic message needs.
    pub(crate) fn bounds(&self, private: &TokenStream, generics: &Generics) -> Vec<WherePredicate> {
        let parameters: Vec<String> = generics.type_params().map(|p| p.ident.to_string()).collect();
        let mut bounds = Vec::new();
        for ty in self.forms.iter().flat_map(|form| [&form.payload, &form.answer]).flatten() {
            if crate::message::words(ty.to_token_stream()).iter().any(|word| parameters.contains(word)) {
                bounds.push(parse_quote!(#ty: #private::ProtobufValue));
                if self.json {
                    bounds.push(parse_quote!(#ty: #private::serde::de::DeserializeOwned));
                }
            }
        }
        bounds
    }
}

fn path(form: &Form) -> TokenStream {
    form.variant.as_ref().map_or_else(|| quote!(Self), |variant| quote!(Self::#variant))
}

/// Whether a variant is marked to stay off this wire.
pub(crate) fn is_native(attributes: &[Attribute], faults: &mut Faults) -> bool {
    let mut native = false;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("message")) {
        let read = attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("native") {
                options::set_flag(&mut native, &meta)
            } else {
                Err(options::unknown(&meta, "`native`, on a variant"))
            }
        });
        if let Err(error) = read {
            faults.push(error);
        }
    }
    native
}

fn read(variant: Option<Ident>, name: &Ident, fields: &Fields, faults: &mut Faults) -> Option<Form> {
    let way_out = if variant.is_some() { ", or mark it `#[message(native)]`" } else { "" };
    let unnamed = match fields {
        Fields::Unnamed(fields) if !fields.unnamed.is_empty() => &fields.unnamed,
        Fields::Unnamed(_) | Fields::Unit => {
            faults.add(
                name,
                &format!(
                    "`{name}` has no payload, whose type would be its name on the protobuf wire: write `{name}(())` for \
                     `google.protobuf.Empty`{way_out}"
                ),
            );
            return None;
        }
        Fields::Named(_) => {
            faults.add(
                name,
                &format!(
                    "the fields of `{name}` have no numbers, which the protobuf wire needs: put them into a protobuf \
                     message and write `{name}(ThatMessage)`{way_out}; {SHAPES}"
                ),
            );
            return None;
        }
    };
    let fields: Vec<&Type> = unnamed.iter().map(|field| &field.ty).collect();
    let (payload, reply) = match fields[..] {
        [one] if answer_of(one).is_some() => (None, Some(one)),
        [one] => (Some(one), None),
        [one, two] if answer_of(one).is_none() && answer_of(two).is_some() => (Some(one), Some(two)),
        _ => {
            faults.add(
                name,
                &format!(
                    "the {} fields of `{name}` are not a payload and a `Reply`: put them into one protobuf \
                     message{way_out}; {SHAPES}",
                    fields.len()
                ),
            );
            return None;
        }
    };
    Some(Form {
        variant,
        payload: payload.cloned(),
        answer: reply.and_then(answer_of).cloned(),
        reply: reply.cloned(),
    })
}

/// `T` of `Reply<T>`.
fn answer_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Reply")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(answer)) => Some(answer),
        _ => None,
    }
}
