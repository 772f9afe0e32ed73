//! A small DNS server, which knows what the test tells it.
#![allow(dead_code, unreachable_pub)]

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SRV},
    },
};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// What is answered about a name and a kind of record. Without it the name is not known (NXDOMAIN).
#[derive(Clone)]
pub enum Says {
    /// Records with their time to live in seconds.
    Records(u32, Vec<RData>),
    /// The same, which only fit into an answer over TCP.
    OverTcp(u32, Vec<RData>),
    Code(ResponseCode),
    /// Nothing.
    Silence,
}

type Zone = Arc<Mutex<HashMap<(Name, RecordType), Says>>>;

pub struct Dns {
    pub address: SocketAddr,
    zone: Zone,
    /// Questions over UDP and over TCP.
    pub asked: Arc<[AtomicUsize; 2]>,
}

pub fn ip(address: &str) -> RData {
    match address.parse().unwrap() {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

pub fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, weight, port, Name::from_str(target).unwrap()))
}

pub fn cname(target: &str) -> RData {
    RData::CNAME(CNAME(Name::from_str(target).unwrap()))
}

impl Dns {
    pub async fn start() -> Self {
        let zone = Zone::default();
        let asked: Arc<[AtomicUsize; 2]> = Arc::default();
        // One port for both, as clients expect.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        tokio::spawn(over_udp(udp, zone.clone(), asked.clone()));
        tokio::spawn(over_tcp(tcp, zone.clone(), asked.clone()));
        Self { address, zone, asked }
    }

    pub fn says(&self, name: &str, kind: RecordType, says: Says) {
        self.zone.lock().unwrap().insert((Name::from_str(name).unwrap(), kind), says);
    }

    /// These A and AAAA records, for a second or less.
    pub fn has(&self, name: &str, addresses: &[&str]) {
        let all: Vec<RData> = addresses.iter().map(|address| ip(address)).collect();
        for kind in [RecordType::A, RecordType::AAAA] {
            let of_kind = all.iter().filter(|data| data.record_type() == kind).cloned().collect();
            self.says(name, kind, Says::Records(0, of_kind));
        }
    }

    /// Neither A nor AAAA: this instead.
    pub fn fails(&self, name: &str, says: &Says) {
        for kind in [RecordType::A, RecordType::AAAA] {
            self.says(name, kind, says.clone());
        }
    }

    /// The name is not known any more.
    pub fn forgets(&self, name: &str) {
        let name = Name::from_str(name).unwrap();
        self.zone.lock().unwrap().retain(|(known, _), _| *known != name);
    }

    pub fn asked(&self) -> usize {
        self.asked[0].load(Ordering::SeqCst)
    }

    pub fn asked_over_tcp(&self) -> usize {
        self.asked[1].load(Ordering::SeqCst)
    }
}

async fn over_udp(socket: UdpSocket, zone: Zone, asked: Arc<[AtomicUsize; 2]>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        asked[0].fetch_add(1, Ordering::SeqCst);
        if let Some(answer) = answer(&buffer[..length], &zone, false) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn over_tcp(listener: TcpListener, zone: Zone, asked: Arc<[AtomicUsize; 2]>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, zone.clone(), asked.clone()));
    }
}

async fn serve(mut stream: TcpStream, zone: Zone, asked: Arc<[AtomicUsize; 2]>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        asked[1].fetch_add(1, Ordering::SeqCst);
        let Some(answer) = answer(&question, &zone, true) else { continue };
        let length = u16::try_from(answer.len()).unwrap();
        if stream.write_u16(length).await.is_err() || stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn answer(question: &[u8], zone: &Zone, over_tcp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries.first()?.clone();
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    reply.add_query(query.clone());
    let zone = zone.lock().unwrap();
    let mut name = query.name().to_lowercase();
    let says = zone.get(&(name.clone(), query.query_type())).cloned();
    let is_known = zone.keys().any(|(known, _)| *known == name);
    match says {
        Some(Says::Records(ttl, records)) => fill(&mut reply, &mut name, ttl, records),
        Some(Says::OverTcp(ttl, records)) if over_tcp => {
            fill(&mut reply, &mut name, ttl, records);
        }
        Some(Says::OverTcp(..)) => reply.metadata.truncation = true,
        Some(Says::Code(code)) => reply.metadata.response_code = code,
        Some(Says::Silence) => return None,
        None if is_known => {}
        None => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(reply.to_vec().unwrap())
}

/// What stands after a CNAME is of its target.
fn fill(reply: &mut Message, name: &mut Name, ttl: u32, records: Vec<RData>) {
    for data in records {
        let next = match &data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        };
        reply.add_answer(Record::from_rdata(name.clone(), ttl, data));
        if let Some(next) = next {
            *name = next;
        }
    }
}
