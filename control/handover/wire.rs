//! Words between two processes of serin over a Unix socket, and descriptors with
//! them.
//!
//! A word is JSON behind its length. Descriptors follow their word a few at a
//! time, each lot with one byte, so that a lot is never read without its byte nor
//! two lots at once.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Larger than any reading of a sane configuration.
const MOST_BYTES: usize = 256 << 20;
/// Descriptors in one lot; the kernel's own bound is 253.
const LOT: usize = 64;

pub fn encode<T: Serialize>(word: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, word)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

pub fn length(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(head) as usize;
    if length > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a word of {length} bytes")));
    }
    Ok(length)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))
}

pub fn send<T: Serialize>(mut to: &UnixStream, word: &T) -> io::Result<()> {
    to.write_all(&encode(word)?)
}

pub fn receive<T: DeserializeOwned>(mut from: &UnixStream) -> io::Result<T> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let mut bytes = vec![0; length(head)?];
    from.read_exact(&mut bytes)?;
    decode(&bytes)
}

pub fn send_descriptors(to: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for lot in descriptors.chunks(LOT) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LOT))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(lot)), "there is room for a lot");
        sendmsg(to.as_fd(), &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

pub fn receive_descriptors(from: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    while descriptors.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LOT))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let message = recvmsg(from.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
        let before = descriptors.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(lot) = message {
                descriptors.extend(lot);
            }
        }
        if message.bytes == 0 || descriptors.len() == before {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "descriptors are missing"));
        }
    }
    Ok(descriptors)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn words_and_many_descriptors_arrive_in_order() {
        let (one, two) = UnixStream::pair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<File> = (0..150)
            .map(|nth| {
                let mut file = File::create_new(folder.path().join(nth.to_string())).unwrap();
                write!(file, "{nth}").unwrap();
                File::open(folder.path().join(nth.to_string())).unwrap()
            })
            .collect();
        send(&one, &"before").unwrap();
        send_descriptors(&one, &files.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
        send(&one, &vec![1, 2]).unwrap();
        assert_eq!(receive::<String>(&two).unwrap(), "before");
        for (nth, received) in receive_descriptors(&two, 150).unwrap().into_iter().enumerate() {
            let mut text = String::new();
            File::from(received).read_to_string(&mut text).unwrap();
            assert_eq!(text, nth.to_string());
        }
        assert_eq!(receive::<Vec<u8>>(&two).unwrap(), [1, 2]);
    }

    #[test]
    fn a_partner_that_leaves_is_an_error_and_no_hang() {
        let (one, two) = UnixStream::pair().unwrap();
        drop(one);
        assert!(receive::<String>(&two).is_err());
        assert!(receive_descriptors(&two, 1).is_err());
    }
}
