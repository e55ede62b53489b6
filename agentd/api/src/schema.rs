//! JSON Schemas of the types that are text on the wire: a pattern says what text.

/// Gives a type the schema of a string with a pattern, inlined wherever it is used.
macro_rules! text_schema {
    ($type:ty, $pattern:expr) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some($pattern))
                    .into()
            }
        }
        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                std::borrow::Cow::Borrowed(stringify!($type))
            }
        }
    };
}
pub(crate) use text_schema;
