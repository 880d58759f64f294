//! The reference host side of the cross-domain channel, `rutabaga_gfx`, as a program that the conformance kit plays its
//! vectors against: calls on standard input, answers on standard output, as the kit's README.md says. The last argument
//! is the path of the compositor's socket.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{stdin, stdout, BufRead, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rutabaga_gfx::{
    calculate_capset_mask, ResourceCreateBlob, Rutabaga, RutabagaBuilder, RutabagaFence,
    RutabagaHandler, RutabagaIovec, RutabagaPath, RutabagaResult, RUTABAGA_BLOB_FLAG_USE_MAPPABLE,
    RUTABAGA_BLOB_FLAG_USE_SHAREABLE, RUTABAGA_BLOB_MEM_GUEST, RUTABAGA_BLOB_MEM_HOST3D,
    RUTABAGA_CAPSET_CROSS_DOMAIN, RUTABAGA_FLAG_FENCE, RUTABAGA_FLAG_INFO_RING_IDX,
    RUTABAGA_PATH_TYPE_WAYLAND,
};
use serde_json::{json, Value};

/// The context of the vector.
const CONTEXT: u32 = 1;
/// Another one, in which buffers are allocated, so that no number of the first is used up for that.
const ALLOCATOR: u32 = 2;
/// Resources of the program itself begin here: those of vectors are far below.
const OWN_RESOURCES: u32 = 0x1000_0000;
const ALLOCATOR_RING: u32 = OWN_RESOURCES;
const PAGE_BYTES: usize = 4096;

/// Guest memory of a ring. The crate's thread writes it; it is read when a fence passes, and lives as long as we do.
#[derive(Clone, Copy)]
struct Ring {
    base: *mut u8,
    size: usize,
}

// SAFETY: the bytes are never freed, and are read through the pointer only.
unsafe impl Send for Ring {}

impl Ring {
    fn new(size: usize) -> Ring {
        Ring {
            base: Box::leak(vec![0u8; size].into_boxed_slice()).as_mut_ptr(),
            size,
        }
    }

    fn bytes(self) -> Vec<u8> {
        // SAFETY: `size` bytes were leaked, and the host side does not write between a fence and the next.
        unsafe { std::slice::from_raw_parts(self.base, self.size) }.to_vec()
    }
}

struct Host {
    rutabaga: Rutabaga,
    rings: HashMap<u32, Ring>,
    /// Calls whose fences have not passed, with their rings, by the fence's id, which is the call's.
    fences: Arc<Mutex<HashMap<u64, Ring>>>,
    next_resource: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os()
        .next_back()
        .ok_or("no path of a compositor's socket")?;
    let mut host = Host::new(path.into())?;
    for line in stdin().lock().lines() {
        host.call(&serde_json::from_str(&line?)?)?;
    }
    Ok(())
}

/// One line, and at once: fences pass in another thread.
fn answer(id: u64, result: Value) {
    let line = format!("{}\n", json!({ "id": id, "result": result }));
    // Nobody may be listening any more.
    let _ = stdout().lock().write_all(line.as_bytes());
}

impl Host {
    fn new(path: PathBuf) -> RutabagaResult<Host> {
        let fences: Arc<Mutex<HashMap<u64, Ring>>> = Arc::default();
        let passing = Arc::clone(&fences);
        let handler = RutabagaHandler::new(move |fence: RutabagaFence| {
            if let Some(ring) = passing.lock().unwrap().remove(&fence.fence_id) {
                answer(fence.fence_id, to_hex(&ring.bytes()).into());
            }
        });
        let rutabaga =
            RutabagaBuilder::new(calculate_capset_mask(["cross-domain"].into_iter()), handler)
                .set_rutabaga_paths(Some(vec![RutabagaPath {
                    path,
                    path_type: RUTABAGA_PATH_TYPE_WAYLAND,
                }]))
                .build()?;
        let mut host = Host {
            rutabaga,
            rings: HashMap::new(),
            fences,
            next_resource: ALLOCATOR_RING + 1,
        };
        host.rutabaga
            .create_context(CONTEXT, RUTABAGA_CAPSET_CROSS_DOMAIN, Some("vector"))?;
        host.rutabaga
            .create_context(ALLOCATOR, RUTABAGA_CAPSET_CROSS_DOMAIN, Some("allocator"))?;
        host.attach_ring(ALLOCATOR, ALLOCATOR_RING, PAGE_BYTES)?;
        // INIT without a channel.
        host.submit(
            ALLOCATOR,
            &mut words(&[0x14_0001, 0, ALLOCATOR_RING, ALLOCATOR_RING, 0]),
        )?;
        Ok(host)
    }

    fn call(&mut self, line: &Value) -> Result<(), Box<dyn Error>> {
        let id = line["id"].as_u64().ok_or("a call without an id")?;
        let arg = |at: usize| line["args"][at].as_u64().ok_or("a number was expected");
        match line["call"].as_str() {
            Some("attachRing") => {
                self.attach_ring(CONTEXT, arg(0)? as u32, arg(1)? as usize)?;
                answer(id, Value::Null);
            }
            Some("attachBuffer") => {
                self.attach_buffer(arg(0)? as u32, arg(1)?, arg(2)? as u8)?;
                answer(id, Value::Null);
            }
            Some("submit") => {
                let mut bytes = from_hex(line["args"][0].as_str().ok_or("no bytes")?)?;
                let done = self.submit(CONTEXT, &mut bytes);
                answer(id, done.is_ok().into());
            }
            Some("fence") => {
                let ring = *self.rings.get(&(arg(1)? as u32)).ok_or("no such ring")?;
                self.fences.lock().unwrap().insert(id, ring);
                let flags = RUTABAGA_FLAG_FENCE | RUTABAGA_FLAG_INFO_RING_IDX;
                let fence = RutabagaFence {
                    flags,
                    fence_id: id,
                    ctx_id: CONTEXT,
                    ring_idx: arg(0)? as u8,
                };
                self.rutabaga.create_fence(fence)?;
            }
            Some("createBlob") => {
                let bytes = self.create_blob(arg(0)?, arg(1)?);
                answer(id, bytes.map_or(Value::Null, |bytes| to_hex(&bytes).into()));
            }
            other => return Err(format!("what is {other:?}?").into()),
        }
        Ok(())
    }

    /// SUBMIT_3D.
    fn submit(&mut self, context: u32, bytes: &mut [u8]) -> RutabagaResult<()> {
        self.rutabaga.submit_command(context, bytes, &[])
    }

    fn attach_ring(&mut self, context: u32, id: u32, size: usize) -> RutabagaResult<()> {
        let ring = Ring::new(size);
        self.rings.insert(id, ring);
        let blob = ResourceCreateBlob {
            blob_mem: RUTABAGA_BLOB_MEM_GUEST,
            blob_flags: RUTABAGA_BLOB_FLAG_USE_MAPPABLE,
            blob_id: 0,
            size: size as u64,
        };
        let pages = vec![RutabagaIovec {
            base: ring.base.cast(),
            len: size,
        }];
        self.rutabaga
            .resource_create_blob(0, id, blob, Some(pages), None)?;
        self.rutabaga.context_attach_resource(context, id)
    }

    /// A buffer full of `fill`, of an image that the allocating context asks for: R8, as wide as the buffer is long.
    fn attach_buffer(&mut self, id: u32, size: u64, fill: u8) -> RutabagaResult<()> {
        let format = u32::from_le_bytes(*b"R8  ");
        self.submit(
            ALLOCATOR,
            &mut words(&[0x18_0002, 0, size as u32, 1, format, 0x11]),
        )?;
        let requirements = self.rings[&ALLOCATOR_RING].bytes();
        let blob_id = u32::from_le_bytes(requirements[48..52].try_into().unwrap());
        self.make_blob(ALLOCATOR, id, blob_id.into(), size)?;
        let mapping = self.rutabaga.map(id)?;
        // SAFETY: the mapping is of that many bytes, and there until it is unmapped.
        unsafe { std::ptr::write_bytes(mapping.ptr as *mut u8, fill, mapping.size as usize) };
        self.rutabaga.unmap(id)?;
        self.rutabaga.context_attach_resource(CONTEXT, id)
    }

    /// CREATE_BLOB of HOST3D, and what is in it.
    fn create_blob(&mut self, blob_id: u64, size: u64) -> Option<Vec<u8>> {
        let id = self.next_resource;
        self.next_resource += 1;
        self.make_blob(CONTEXT, id, blob_id, size).ok()?;
        let mapping = self.rutabaga.map(id).ok()?;
        // SAFETY: the mapping is of that many bytes, and there until it is unmapped.
        let bytes =
            unsafe { std::slice::from_raw_parts(mapping.ptr as *const u8, size as usize) }.to_vec();
        self.rutabaga.unmap(id).ok()?;
        Some(bytes)
    }

    fn make_blob(&mut self, context: u32, id: u32, blob_id: u64, size: u64) -> RutabagaResult<()> {
        let blob_flags = RUTABAGA_BLOB_FLAG_USE_MAPPABLE | RUTABAGA_BLOB_FLAG_USE_SHAREABLE;
        let blob = ResourceCreateBlob {
            blob_mem: RUTABAGA_BLOB_MEM_HOST3D,
            blob_flags,
            blob_id,
            size,
        };
        self.rutabaga
            .resource_create_blob(context, id, blob, None, None)
    }
}

fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn from_hex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pair = |at: usize| text.get(at..at + 2).ok_or("half a byte");
    (0..text.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(pair(at)?, 16)?))
        .collect()
}
