//! Parts of the engine as global functions of numbers: the verifier looks at each once in a program, whatever the
//! callers know, and trusts it to return some number. A function that is not global it follows anew for every caller.

use furiwake_engine::{
    connection::{self, Client, New, Peer, Position, template},
    learn::{self, Seen},
    schedule::{self, Origin},
};

use crate::maps::Maps;

const MAPS: &Maps = &Maps::WITHOUT_PACKET;

/// [`connection::search`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn furiwake_search(
    client: u64,
    peer: u64,
    except: u32,
    first_probe: u32,
) -> u32 {
    let (client, peer) = (Client::from_number(client), Peer::from_number(peer));
    let except = Position::from_number(except);
    connection::search(MAPS, client, peer, except, first_probe).number()
}

/// [`schedule::choose`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn furiwake_choose(service: u32, origin: u64, high: u64, low: u64) -> u32 {
    schedule::choose(MAPS, service, Origin::from_number(origin), high, low)
}

/// [`connection::place`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn furiwake_place(
    client: u64,
    peer: u64,
    server_flags: u64,
    template_seconds: u64,
    now: u32,
) -> u32 {
    let new = New {
        client: Client::from_number(client),
        peer: Peer::from_number(peer),
        server: server_flags as u32,
        flags: (server_flags >> 32) as u32,
        template: Position::from_number(template_seconds as u32),
        seconds: (template_seconds >> 32) as u32,
    };
    connection::place(MAPS, &new, now).number()
}

/// [`connection::make_sure`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn furiwake_make_sure(client: u64, peer: u64, ours: u32) -> u32 {
    let (client, peer) = (Client::from_number(client), Peer::from_number(peer));
    connection::make_sure(MAPS, client, peer, Position::from_number(ours)).number()
}

/// [`template::make_sure`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn furiwake_make_sure_of_template(network: u64, peer: u64, ours: u32) -> u32 {
    let (network, peer) = (Client::from_number(network), Peer::from_number(peer));
    template::make_sure(MAPS, network, peer, Position::from_number(ours)).number()
}

/// [`connection::take_out`]; 0 is false.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn furiwake_take_out(position: u32, seen: u32) -> u32 {
    connection::take_out(MAPS, Position::from_number(position), seen) as u32
}

/// [`learn::learn`]. (A global function returns a number.)
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn furiwake_learn(position: u32, packet: u32, now: u32) -> u32 {
    let position = Position::from_number(position);
    learn::learn(MAPS, position, Seen::from_number(packet), now);
    0
}

/// [`template::tell`]. (A global function returns a number.)
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn furiwake_tell_template(connection: u32) -> u32 {
    template::tell(MAPS, Position::from_number(connection));
    0
}
