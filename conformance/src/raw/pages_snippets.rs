//! The instructions with which cases write to tables and load selectors.

use core::arch::naked_asm;

use super::Code;
use super::snippets::snippets;

snippets! {
    /// Loads ds with ax, reads it back to rax, and loads it with 0.
    LOAD_SELECTOR = "mov ds, eax", "mov eax, ds", "mov ecx, 0", "mov ds, ecx";
    /// The limit of the segment that cx selects to rax; rbx is 1 if there is one.
    LIMIT = "mov ebx, 0", "lsl eax, ecx", "setz bl";
    MOV_8 = "mov [rsi], al";
    MOV_16 = "mov [rsi], ax";
    MOV_32 = "mov [rsi], eax";
    MOV_64 = "mov [rsi], rax";
    MOV_HIGH_BYTE = "mov [rsi], ah";
    MOV_IMMEDIATE_8 = "mov byte ptr [rsi], 0x40";
    MOV_IMMEDIATE_16 = "mov word ptr [rsi], 0x4240";
    MOV_IMMEDIATE_32 = "mov dword ptr [rsi], 0x46444240";
    MOV_IMMEDIATE_64 = "mov qword ptr [rsi], -2";
    /// To rsi + 4 * rbx + 16, addressed by a base, an index and a displacement.
    MOV_INDEXED = "mov [rsi + rbx * 4 + 16], rax";
    MOVNTI = "movnti [rsi], rax";
    XCHG_8 = "xchg [rsi], al";
    XCHG_16 = "xchg [rsi], ax";
    XCHG_32 = "xchg [rsi], eax";
    XCHG_64 = "xchg [rsi], rax";
    LOCK_AND = "lock and [rsi], rax";
    LOCK_AND_IMMEDIATE = "lock and byte ptr [rsi], 0xfd";
    LOCK_AND_32 = "lock and [rsi], eax";
    LOCK_OR = "lock or [rsi], rax";
    LOCK_XOR = "lock xor [rsi], rax";
    LOCK_ADD = "lock add [rsi], rax";
    LOCK_SUB = "lock sub [rsi], rax";
    LOCK_INC = "lock inc qword ptr [rsi]";
    LOCK_NOT = "lock not qword ptr [rsi]";
    LOCK_NEG = "lock neg qword ptr [rsi]";
    LOCK_XADD = "lock xadd [rsi], rax";
    LOCK_BTS = "lock bts qword ptr [rsi], 6";
    LOCK_BTR = "lock btr qword ptr [rsi], 6";
    LOCK_BTC = "lock btc qword ptr [rsi], 6";
    LOCK_BTS_REGISTER = "lock bts [rsi], rax";
    LOCK_BTR_REGISTER = "lock btr [rsi], rax";
    CMPXCHG = "lock cmpxchg [rsi], rbx";
    CMPXCHG_32 = "lock cmpxchg [rsi], ebx";
    CMPXCHG_8B = "lock cmpxchg8b [rsi]";
    CMPXCHG_16B = "lock cmpxchg16b [rsi]";
    AND = "and [rsi], rax";
    OR = "or [rsi], rax";
    ADD = "add [rsi], rax";
    BTS = "bts qword ptr [rsi], 6";
    SHL = "shl qword ptr [rsi], 1";
    SETZ = "setz byte ptr [rsi]";
    STOSQ = "mov rdi, rsi", "stosq";
    /// Two words.
    REP_STOSQ = "mov rdi, rsi", "mov ecx, 2", "rep stosq";
    /// From rbx.
    MOVSQ = "mov rdi, rsi", "mov rsi, rbx", "movsq";
    POP = "push rax", "pop qword ptr [rsi]";
    MOVQ_XMM = "movq xmm0, rax", "movq [rsi], xmm0";
    MOVUPS = "movups [rsi], xmm0";
    SGDT = "sgdt [rsi]";
}
