//! The messages around a call's batches, read by hand: what a stranger sends first must not take much memory.

use super::BatchLimits;
use super::fault::{EntryFault, MessageFault, Part};
use super::reader::{Broken, Reader};
use super::target::check_size;
use crate::wire::proto::remote::connect_request::ConnectionType;
use crate::wire::proto::remote::{
    ClientConnection, ConnectRequest, ConnectResponse, Nexus, ServerConnection,
};

const MEMBER_ID: u32 = 1;
const ADDRESS: u32 = 2;
const BLOCK_LIST: u32 = 3;
const NEXUS: u32 = 1000;

fn text(bytes: &[u8], what: &'static str, part: Part, limit: usize) -> Result<String, MessageFault> {
    check_size(part, bytes.len(), limit)
        .and_then(|()| std::str::from_utf8(bytes).map_err(|_| EntryFault::NotText(part)))
        .map(str::to_owned)
        .map_err(|fault| MessageFault::Text { what, fault })
}

fn member_id(bytes: &[u8], limits: &BatchLimits) -> Result<String, MessageFault> {
    text(bytes, "system id", Part::Id, limits.id_bytes)
}

fn check_length(bytes: &[u8], limits: &BatchLimits) -> Result<(), MessageFault> {
    if bytes.len() > limits.handshake_bytes {
        return Err(MessageFault::TooLarge { size: bytes.len(), limit: limits.handshake_bytes });
    }
    Ok(())
}

/// Reads a `ConnectRequest`.
pub(super) fn connect_request(bytes: &[u8], limits: &BatchLimits) -> Result<ConnectRequest, MessageFault> {
    check_length(bytes, limits)?;
    let broken = MessageFault::of("connect request");
    let (mut reader, mut connection) = (Reader::new(bytes), None);
    while let Some(field) = reader.next().map_err(&broken)? {
        if !matches!(field.number, 1 | 2) {
            continue;
        }
        let content = field.bytes().map_err(&broken)?;
        if connection.is_some() {
            return Err(broken(Broken { at: field.start() }));
        }
        connection = Some(match field.number {
            1 => ConnectionType::ClientConnection(client(content, limits)?),
            _ => ConnectionType::ServerConnection(server(content, limits)?),
        });
    }
    Ok(ConnectRequest { connection_type: connection })
}

fn client(bytes: &[u8], limits: &BatchLimits) -> Result<ClientConnection, MessageFault> {
    let broken = MessageFault::of("client connection");
    let (mut reader, mut client) = (Reader::new(bytes), ClientConnection::default());
    while let Some(field) = reader.next().map_err(&broken)? {
        match field.number {
            MEMBER_ID => client.member_id = member_id(field.bytes().map_err(&broken)?, limits)?,
            NEXUS => client.nexus = Some(nexus(field.bytes().map_err(&broken)?)?),
            _ => {}
        }
    }
    Ok(client)
}

fn server(bytes: &[u8], limits: &BatchLimits) -> Result<ServerConnection, MessageFault> {
    let broken = MessageFault::of("server connection");
    let (mut reader, mut server) = (Reader::new(bytes), ServerConnection::default());
    while let Some(field) = reader.next().map_err(&broken)? {
        match field.number {
            MEMBER_ID => server.member_id = member_id(field.bytes().map_err(&broken)?, limits)?,
            ADDRESS => {
                let address = field.bytes().map_err(&broken)?;
                server.address = text(address, "address", Part::Address, limits.address_bytes)?;
            }
            BLOCK_LIST => {
                let id = field.bytes().map_err(&broken)?;
                let count = server.block_list.len() + 1;
                if count > limits.blocked_ids {
                    return Err(MessageFault::TooMany {
                        what: "blocked ids",
                        count,
                        limit: limits.blocked_ids,
                    });
                }
                // Nobody has an empty id, and many of them would take more memory than they came in.
                if !id.is_empty() {
                    server.block_list.push(member_id(id, limits)?);
                }
            }
            NEXUS => server.nexus = Some(nexus(field.bytes().map_err(&broken)?)?),
            _ => {}
        }
    }
    Ok(server)
}

/// Reads a `ConnectResponse`.
pub(super) fn connect_response(bytes: &[u8], limits: &BatchLimits) -> Result<ConnectResponse, MessageFault> {
    check_length(bytes, limits)?;
    let broken = MessageFault::of("connect response");
    let (mut reader, mut response) = (Reader::new(bytes), ConnectResponse::default());
    while let Some(field) = reader.next().map_err(&broken)? {
        match field.number {
            2 => response.member_id = member_id(field.bytes().map_err(&broken)?, limits)?,
            3 => response.blocked = field.u64().map_err(&broken)? != 0,
            NEXUS => response.nexus = Some(nexus(field.bytes().map_err(&broken)?)?),
            _ => {}
        }
    }
    Ok(response)
}

fn nexus(bytes: &[u8]) -> Result<Nexus, MessageFault> {
    let broken = MessageFault::of("nexus part of the handshake");
    let (mut reader, mut nexus) = (Reader::new(bytes), Nexus::default());
    while let Some(field) = reader.next().map_err(&broken)? {
        match field.number {
            1 => nexus.version = field.u32().map_err(&broken)?,
            2 => nexus.capabilities = field.u64().map_err(&broken)?,
            _ => {}
        }
    }
    Ok(nexus)
}

/// Reads an `Acknowledge`.
pub(super) fn acknowledge(bytes: &[u8]) -> Result<u64, MessageFault> {
    let broken = MessageFault::of("acknowledgement");
    let (mut reader, mut messages) = (Reader::new(bytes), 0);
    while let Some(field) = reader.next().map_err(&broken)? {
        if field.number == 1 {
            messages = field.u64().map_err(&broken)?;
        }
    }
    Ok(messages)
}
