//! The words that rules are made of: what nft calls expressions and matches.

use std::net::Ipv4Addr;

use nftables::expr::{CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression};
use nftables::expr::{Payload, PayloadField, Prefix, SetItem};
use nftables::stmt::{Match, Operator, Statement};

pub fn text(value: &str) -> Expression<'static> {
    Expression::String(value.to_owned().into())
}
pub fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}
pub fn ct(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}
pub fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}
pub fn prefix(address: Ipv4Addr, length: u8) -> Expression<'static> {
    let addr = Box::new(text(&address.to_string()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len: length.into() }))
}
pub fn set(items: impl IntoIterator<Item = Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Set(items.into_iter().map(SetItem::Element).collect()))
}
pub fn matches(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}
pub fn equal(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    matches(left, Operator::EQ, right)
}
pub fn unequal(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    matches(left, Operator::NEQ, right)
}
/// For fields that hold several flags at once.
pub fn within(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    matches(left, Operator::IN, right)
}
pub fn drop() -> Statement<'static> {
    Statement::Drop(None)
}
/// What sort of address the packet goes to: `local` for any of the host's own.
pub fn local_address() -> Expression<'static> {
    Expression::Named(NamedExpression::Fib(Fib { result: FibResult::Type, flags: [FibFlag::Daddr].into() }))
}
