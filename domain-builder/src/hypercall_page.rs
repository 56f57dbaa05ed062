//! The page of stubs through which older kernels make hypercalls.
//!
//! Entry `n`, 32 bytes from the next, makes hypercall `n` and preserves what the guest's compiler
//! thinks a call preserves: `syscall` itself destroys RCX and R11. Entry 23 (`iret`) does not
//! return; it pushes RAX as well, which completes the frame that hypercall reads.

/// Bytes from one stub to the next.
pub const STUB_LEN: usize = 32;
/// Stubs in the page.
pub const STUB_COUNT: u8 = 128;
/// The hypercall that returns to where its frame says.
const IRET: u8 = 23;
/// Fills the rest of a stub: `int3`.
const FILL: u8 = 0xcc;

/// push rcx; push r11; mov eax, n; syscall; pop r11; pop rcx; ret
const CALL: [u8; 14] = [0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3];
/// push rcx; push r11; push rax; mov eax, 23; syscall
const RETURN: [u8; 11] = [0x51, 0x41, 0x53, 0x50, 0xb8, IRET, 0, 0, 0, 0x0f, 0x05];
/// Where [`CALL`] has the number.
const NUMBER_AT: usize = 4;

/// The stub of hypercall `number`.
pub fn stub(number: u8) -> [u8; STUB_LEN] {
    let code: &[u8] = if number == IRET { &RETURN } else { &CALL };
    let mut stub = [FILL; STUB_LEN];
    for (to, from) in stub.iter_mut().zip(code) {
        *to = *from;
    }
    if number != IRET
        && let Some(byte) = stub.get_mut(NUMBER_AT)
    {
        *byte = number;
    }
    stub
}
