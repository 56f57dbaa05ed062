# Where the other CPUs start: real mode, at the beginning of a page below 1 MiB that this code was
# copied to. Goes to 64-bit mode in one step and on to smp.rs, on the CPU's own stack.
#
# The words at the end are filled in by smp.rs.

.section .rodata.trampoline, "a"
.code16
.global trampoline
trampoline:
    cli
    cld
    mov ax, cs
    mov ds, ax
    # Operands that are distances within this page are written as bytes: the assembler won't.
    # lgdt [trampoline_gdtr], with a 32-bit base:
    .byte 0x66, 0x0f, 0x01, 0x16
    .short trampoline_gdtr - trampoline
    mov eax, 0x20
    mov cr4, eax
    # mov eax, [trampoline_root]
    .byte 0x66, 0xa1
    .short trampoline_root - trampoline
    mov cr3, eax
    # Long mode and no-execute: the tables use the bit.
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x900
    wrmsr
    # Protection, write protection and paging at once; caches on.
    mov eax, 0x80010011
    mov cr0, eax
    # jmp far [trampoline_jump], 32 bits and selector:
    .byte 0x66, 0xff, 0x2e
    .short trampoline_jump - trampoline

.code64
.global trampoline_64
trampoline_64:
    mov rsp, qword ptr [rip + trampoline_stack]
    xor ebp, ebp
    push 0
    jmp qword ptr [rip + trampoline_entry]

.align 8
trampoline_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
trampoline_gdt_end:

.short 0
.global trampoline_gdtr, trampoline_gdt
trampoline_gdtr:
    .short trampoline_gdt_end - trampoline_gdt - 1
    .long 0
.align 8
.global trampoline_jump
trampoline_jump:
    .long 0
    .short 8
.align 8
.global trampoline_root, trampoline_stack, trampoline_entry
trampoline_root:
    .quad 0
trampoline_stack:
    .quad 0
trampoline_entry:
    .quad 0
.global trampoline_end
trampoline_end:
