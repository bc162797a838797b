//! `#[derive(Message)]`.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Attribute, Data, DeriveInput, Field, Fields, Generics, LitStr, Path, Token, Type, parse_quote};

use crate::faults::Faults;
use crate::manifest;
use crate::options::{self, Root};
use crate::protobuf::{self, Forms};

const KNOWN: &str = "`manifest = \"name@1\"`, `protobuf`, `json` and `crate = path::to::nexus_actor`";

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let options = Options::read(input)?;
    let forms = check_shape(input, &options)?;
    let root = Root::new(options.krate);
    Ok(write(&root, &input.ident, &input.generics, options.manifest.as_ref(), forms.as_ref()))
}

/// The implementation of `Message` by way of serde and postcard.
pub(crate) fn implementation(
    root: &Root,
    name: &Ident,
    generics: &Generics,
    manifest: &LitStr,
) -> TokenStream {
    write(root, name, generics, Some(manifest), None)
}

/// The implementation of `Message`: by way of serde and postcard where there is a manifest, by way of prost where there
/// are forms.
fn write(
    root: &Root,
    name: &Ident,
    generics: &Generics,
    manifest: Option<&LitStr>,
    forms: Option<&Forms>,
) -> TokenStream {
    let private = root.private();
    let mut generics = generics.clone();
    if let Some(forms) = forms {
        let bounds = forms.bounds(&private, &generics);
        if !bounds.is_empty() {
            generics.make_where_clause().predicates.extend(bounds);
        }
    }
    if manifest.is_some() && generics.type_params().next().is_some() {
        let (_, arguments, _) = generics.split_for_impl();
        // The bound is on the message, not on its parameters: serde's derive, or a `#[serde(bound)]` that
        // corrects it, decides when the message can be written, and this follows.
        let bound = parse_quote! {
            #name #arguments: #private::serde::Serialize
                + #private::serde::de::DeserializeOwned + ::core::marker::Send + 'static
        };
        generics.make_where_clause().predicates.push(bound);
    }
    let (parameters, arguments, bounds) = generics.split_for_impl();
    // A missing serde derive is reported where the type is named, not at the derive.
    let at = name.span();
    let (constants, encode, decode) = match manifest {
        Some(manifest) => {
            let decode = quote_spanned!(at=> #private::Decoder::postcard::<Self>(decoder)?);
            (
                quote!(const MANIFEST: &'static str = #manifest;),
                quote_spanned!(at=> #private::Encoder::postcard::<Self>(encoder, self)),
                quote! {
                    let message = #decode;
                    decoder.finish()?;
                    ::core::result::Result::Ok(message)
                },
            )
        }
        // The name tells types apart where they are registered and is on no wire.
        None => (
            quote! {
                const MANIFEST: &'static str = ::core::concat!(
                    "protobuf:", ::core::module_path!(), "::", ::core::stringify!(#name)
                );

                const SERIALIZER: #private::SerializerId = #private::SerializerId::PROTOBUF;
            },
            quote!(::core::result::Result::Err(#private::not_encoded::<Self>(encoder))),
            quote!(::core::result::Result::Err(#private::not_decoded::<Self>(decoder))),
        ),
    };
    let protobuf = forms.map(|forms| forms.constant(&private));
    quote! {
        #[automatically_derived]
        impl #parameters #private::Message for #name #arguments #bounds {
            #constants

            #protobuf

            fn encode(
                &self,
                encoder: &mut #private::Encoder<'_>,
            ) -> ::core::result::Result<(), #private::EncodeError> {
                #encode
            }

            fn decode(
                decoder: &mut #private::Decoder<'_>,
            ) -> ::core::result::Result<Self, #private::DecodeError> {
                #decode
            }
        }
    }
}

struct Options {
    /// There is one, or `protobuf`, or both.
    manifest: Option<LitStr>,
    krate: Option<Path>,
    protobuf: bool,
    json: bool,
}

impl Options {
    fn read(input: &DeriveInput) -> syn::Result<Self> {
        let (mut manifest, mut krate) = (None, None);
        let (mut protobuf, mut json) = (false, false);
        let mut json_at = None;
        for attribute in input.attrs.iter().filter(|a| a.path().is_ident("message")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("manifest") {
                    options::set_manifest(&mut manifest, &meta)
                } else if meta.path.is_ident("crate") {
                    options::set(&mut krate, &meta)
                } else if meta.path.is_ident("protobuf") {
                    options::set_flag(&mut protobuf, &meta)
                } else if meta.path.is_ident("json") {
                    json_at = meta.path.get_ident().map(Ident::span);
                    options::set_flag(&mut json, &meta)
                } else {
                    Err(options::unknown(&meta, KNOWN))
                }
            })?;
        }
        let name = &input.ident;
        if let Some(at) = json_at
            && !protobuf
        {
            return Err(syn::Error::new(
                at,
                "`json` reads what a peer of the protobuf wire wrote as JSON: write `protobuf, json`",
            ));
        }
        if manifest.is_none() && !protobuf {
            let suggested = manifest::suggest(&name.to_string());
            return Err(syn::Error::new(
                name.span(),
                format!(
                    "a message that may cross a wire needs a name there: \
                     write `#[message(manifest = \"{suggested}\")]` above `{name}`"
                ),
            ));
        }
        Ok(Self { manifest, krate, protobuf, json })
    }
}

/// Refuses what compiles but cannot work, and what would fail with a worse message.
fn check_shape(input: &DeriveInput, options: &Options) -> syn::Result<Option<Forms>> {
    let mut faults = Faults::default();
    for lifetime in input.generics.lifetimes() {
        faults.add(
            &lifetime.lifetime,
            "a message outlives its sender, so it cannot borrow: own the data, \
             `String` for `&'a str`, `Vec<T>` for `&'a [T]`",
        );
    }
    for attribute in misplaced(&input.data, options.protobuf) {
        let why = if protobuf::is_native(core::slice::from_ref(attribute), &mut Faults::default()) {
            "`native` keeps a variant off the protobuf wire, which this message does not cross: remove it, or write \
             `protobuf` above the type"
        } else {
            "`#[message(..)]` belongs above the type, not on a part of it"
        };
        faults.add(attribute, why);
    }
    let forms = options.protobuf.then(|| Forms::read(input, options.json, &mut faults));
    if options.manifest.is_none() {
        // Nothing of serde's is used.
        if let Data::Union(data) = &input.data {
            faults.add(data.union_token, UNION);
        }
        return faults.finish().map(|()| forms);
    }
    if !check_serde(&input.attrs, &mut faults).iter().any(|key| key == "bound") {
        check_bounds(input, &mut faults);
    }
    match &input.data {
        Data::Struct(data) => check_fields(&data.fields, &mut faults),
        Data::Enum(data) => {
            let mut skipped = None;
            for variant in &data.variants {
                let keys = check_serde(&variant.attrs, &mut faults);
                check_fields(&variant.fields, &mut faults);
                if keys.iter().any(|key| key == "skip" || key == "skip_deserializing") {
                    skipped = skipped.or(Some(&variant.ident));
                } else if let Some(before) = skipped {
                    faults.add(
                        &variant.ident,
                        &format!(
                            "`{}` stands after `{before}`, which is skipped: serde numbers the variants after a \
                             skipped one differently when it writes and when it reads, so move `{before}` to the end",
                            variant.ident
                        ),
                    );
                }
            }
        }
        Data::Union(data) => {
            faults.add(data.union_token, UNION);
        }
    }
    faults.finish().map(|()| forms)
}

const UNION: &str = "a union has no serialized form: make the message a struct or an enum";

fn check_fields(fields: &Fields, faults: &mut Faults) {
    for field in fields {
        check_serde(&field.attrs, faults);
    }
}

/// Refuses serde attributes that postcard, which writes no names, cannot read back; returns the keys found.
fn check_serde(attributes: &[Attribute], faults: &mut Faults) -> Vec<String> {
    let mut keys = Vec::new();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("serde")) {
        // Serde reports what it cannot parse; here only known keys matter.
        let _ = attribute.parse_nested_meta(|meta| {
            let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            match key.as_str() {
                "untagged" | "tag" | "content" | "flatten" => faults.add(
                    &meta.path,
                    &format!(
                        "`serde({key})` needs a format that names its fields; the wire's default, postcard, \
                         does not, and the receiver could not read this: remove it"
                    ),
                ),
                "skip_serializing_if" => faults.add(
                    &meta.path,
                    "`serde(skip_serializing_if)` leaves out what the receiver expects, since postcard writes no \
                     field names: remove it (an `Option` that is `None` costs one byte)",
                ),
                _ => {}
            }
            keys.push(key);
            if meta.input.peek(Token![=]) {
                let _: syn::Expr = meta.value()?.parse()?;
            } else if meta.input.peek(syn::token::Paren) {
                let inside;
                syn::parenthesized!(inside in meta.input);
                let _: TokenStream = inside.parse()?;
            }
            Ok(())
        });
    }
    keys
}

/// Asks for the bound that a generic message with a reply or a reference inside needs.
///
/// Serde derives `T: Serialize` for writing and `T: Deserialize` for reading, but a `Reply<T>` needs both in
/// both directions, and an `ActorRef` needs its message to be one.
fn check_bounds(input: &DeriveInput, faults: &mut Faults) {
    let parameters: Vec<String> = input.generics.type_params().map(|p| p.ident.to_string()).collect();
    if parameters.is_empty() {
        return;
    }
    for field in fields(&input.data) {
        let Type::Path(path) = &field.ty else { continue };
        let Some(last) = path.path.segments.last().filter(|s| s.ident == "Reply" || s.ident == "ActorRef")
        else {
            continue;
        };
        let inside = last.arguments.to_token_stream();
        let named = words(inside);
        let speaks_of_message = named.iter().any(|word| word == "Self" || input.ident == word);
        let used: Vec<&String> =
            parameters.iter().filter(|p| speaks_of_message || named.contains(p)).collect();
        if used.is_empty()
            || check_serde(&field.attrs, &mut Faults::default()).iter().any(|key| key == "bound")
        {
            continue;
        }
        let is_reference_to_parameter = last.ident == "ActorRef" && named.len() == 1 && !speaks_of_message;
        let bound = if is_reference_to_parameter { "Message" } else { "WireValue" };
        let bounds: Vec<String> = used.iter().map(|p| format!("{p}: nexus_actor::{bound}")).collect();
        faults.add(
            &field.ty,
            &format!(
                "serde's derived bounds are too weak for a generic `{}`: \
                 write `#[serde(bound = \"{}\")]` above `{}`",
                last.ident,
                bounds.join(", "),
                input.ident
            ),
        );
    }
}

/// Every identifier in `tokens`.
pub(crate) fn words(tokens: TokenStream) -> Vec<String> {
    let words = tokens.into_iter().flat_map(|token| match token {
        TokenTree::Ident(ident) => vec![ident.to_string()],
        TokenTree::Group(group) => words(group.stream()),
        _ => Vec::new(),
    });
    words.collect()
}

fn fields(data: &Data) -> Vec<&Field> {
    match data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.fields).collect(),
        Data::Union(data) => data.fields.named.iter().collect(),
    }
}

/// Attributes of ours that stand where they mean nothing. Those of variants mean something on the protobuf wire.
fn misplaced(data: &Data, protobuf: bool) -> Vec<&Attribute> {
    let mut attributes: Vec<&Attribute> = fields(data).into_iter().flat_map(|field| &field.attrs).collect();
    if let Data::Enum(data) = data
        && !protobuf
    {
        attributes.extend(data.variants.iter().flat_map(|variant| &variant.attrs));
    }
    attributes.retain(|attribute| attribute.path().is_ident("message"));
    attributes
}

#[cfg(test)]
mod tests {
    use super::derive;

    /// The text of every error, or nothing.
    fn check(name: &str, source: &str, expected: &[&str]) {
        let input = syn::parse_str(source).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found: Vec<String> = derive(&input)
            .map_or_else(|e| e.into_iter().map(|one| one.to_string()).collect(), |_| Vec::new());
        assert_eq!(found.len(), expected.len(), "{name}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{name}: {found}");
        }
    }

    #[test]
    fn refusals() {
        for (name, source, expected) in [
            ("plain", r#"#[message(manifest = "a@1")] struct A;"#, &[][..]),
            ("in two attributes", r#"#[message(manifest = "a@1")] #[message(crate = x::y)] struct A;"#, &[]),
            (
                "skipped last",
                r#"#[message(manifest = "a@1")] enum A { B, #[serde(skip)] C, #[serde(skip)] D }"#,
                &[],
            ),
            (
                "harmless serde keys",
                r#"#[message(manifest = "a@1")] #[serde(bound(serialize = "T: X"), rename = "b", crate = "c")] struct A;"#,
                &[],
            ),
            ("no attribute", "struct AddItem;", &["#[message(manifest = \"my_app.add_item@1\")]"]),
            ("no manifest", "#[message(crate = x)] struct A;", &["my_app.a@1"]),
            ("twice", r#"#[message(manifest = "a@1", manifest = "a@1")] struct A;"#, &["given twice"]),
            ("not a literal", "#[message(manifest = NAME)] struct A;", &["expected string literal"]),
            ("bare", "#[message] struct A;", &["#[message(...)]"]),
            (
                "unknown key",
                r#"#[message(serializer = "json")] struct A;"#,
                &["the known keys are `manifest"],
            ),
            ("borrows", r#"#[message(manifest = "a@1")] struct A<'a>(&'a str);"#, &["own the data"]),
            ("union", r#"#[message(manifest = "a@1")] union A { b: u8 }"#, &["a union has no"]),
            (
                "skipped first",
                r#"#[message(manifest = "a@1")] enum A { #[serde(skip)] B, C }"#,
                &["move `B` to the end"],
            ),
            (
                "several",
                r#"#[message(manifest = "a@1")] #[serde(untagged)] enum A { B { #[serde(flatten)] c: D } }"#,
                &["serde(untagged)", "serde(flatten)"],
            ),
            (
                "left out",
                r#"#[message(manifest = "a@1")] struct A { #[serde(default, skip_serializing_if = "Option::is_none")] b: Option<u8> }"#,
                &["one byte"],
            ),
            (
                "on a field",
                r#"#[message(manifest = "a@1")] struct A { #[message(b)] b: u8 }"#,
                &["above the type"],
            ),
        ] {
            check(name, source, expected);
        }
    }
}
