# From the boot loader's 32-bit mode to 64-bit Rust at high addresses.
#
# A multiboot loader leaves us in protected mode without paging, at the physical address of
# boot_entry32, with a magic number in eax and the address of its information in ebx, interrupts
# off. Every address used before the jump to high memory is therefore "symbol - IMAGE".

.set IMAGE, 0xffff828000000000
.set KERNEL_CS64, 0xe008

.section .multiboot, "ax"

# Multiboot 1: page-aligned modules, memory map, address fields (which is what lets a loader take
# an ELF64 file).
.align 8
multiboot1_header:
    .long 0x1badb002
    .long 0x00010003
    .long -(0x1badb002 + 0x00010003)
    .long multiboot1_header - IMAGE
    .long __image_start - IMAGE
    .long __load_end - IMAGE
    .long __image_end - IMAGE
    .long boot_entry32 - IMAGE

# Multiboot 2: the same facts, plus a request to keep modules page-aligned.
.align 8
multiboot2_header:
    .long 0xe85250d6
    .long 0
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
    # Address fields.
    .short 2, 0
    .long 24
    .long multiboot2_header - IMAGE
    .long __image_start - IMAGE
    .long __load_end - IMAGE
    .long __image_end - IMAGE
    # Entry address.
    .short 3, 0
    .long 12
    .long boot_entry32 - IMAGE
    .align 8
    # Module alignment.
    .short 6, 0
    .long 8
    # End.
    .short 0, 0
    .long 8
multiboot2_header_end:

.section .text.boot, "ax"
.code32
.global boot_entry32
boot_entry32:
    cld
    mov esi, eax
    mov esp, offset boot_stack_top - IMAGE

    # Long mode, before anything else is tried: without it there is nobody to tell but this code.
    mov eax, 0x80000000
    push ebx
    cpuid
    pop ebx
    cmp eax, 0x80000001
    jb 9f
    mov eax, 0x80000001
    push ebx
    cpuid
    pop ebx
    bt edx, 29
    jnc 9f

    # The first 4 GiB in 2 MiB pages: at 0 (this code), at IMAGE (slot 261) and as the beginning of
    # the direct map (slot 264).
    mov edi, offset boot_l2 - IMAGE
    mov eax, 0x83
    xor edx, edx
1:  mov [edi], eax
    mov [edi + 4], edx
    add edi, 8
    add eax, 0x200000
    jnc 1b

    mov edi, offset boot_l3 - IMAGE
    mov eax, offset boot_l2 - IMAGE + 3
    mov ecx, 4
2:  mov [edi], eax
    add edi, 8
    add eax, 4096
    loop 2b

    mov edi, offset boot_l4 - IMAGE
    mov eax, offset boot_l3 - IMAGE + 3
    mov [edi], eax
    mov [edi + 261 * 8], eax
    mov [edi + 264 * 8], eax
    mov cr3, edi

    # PAE; long mode; paging with write protection.
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    or eax, 0x80010001
    mov cr0, eax

    lgdt [boot_gdtr_low - IMAGE]
    # A far jump by hand: the assembler has no mnemonic for one with these operands.
    push KERNEL_CS64
    mov eax, offset boot_entry64_low - IMAGE
    push eax
    retf

# No 64-bit mode: one sentence on the first serial port, then out (see exit.rs for the codes).
9:  mov esi, offset no_long_mode - IMAGE
3:  mov dx, 0x3fd
    in al, dx
    test al, 0x20
    jz 3b
    lodsb
    test al, al
    jz 4f
    mov dx, 0x3f8
    out dx, al
    jmp 3b
4:  mov al, 0x12
    out 0xf4, al
5:  cli
    hlt
    jmp 5b

.code64
boot_entry64_low:
    movabs rax, offset boot_entry64
    jmp rax

boot_entry64:
    lgdt [rip + boot_gdtr_high]
    mov eax, 0xe010
    mov ss, eax
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    mov edi, esi
    mov esi, ebx
    call boot_entry
    ud2

.section .rodata.boot, "a"
no_long_mode:
    .asciz "(PV) refused: this CPU has no 64-bit mode; start Paravane on an x86-64 machine (QEMU: -cpu qemu64 or newer)\r\n"

# The first descriptors of the reserved page, where the real tables have them too: so selectors
# never change from here on.
.align 16
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
boot_gdt_end:

.align 8
boot_gdtr_low:
    .short 0xe000 + (boot_gdt_end - boot_gdt) - 1
    .long boot_gdt - IMAGE - 0xe000
.align 8
boot_gdtr_high:
    .short 0xe000 + (boot_gdt_end - boot_gdt) - 1
    .quad boot_gdt - 0xe000

.section .bss.boot, "aw", @nobits
.align 4096
.global boot_l4
boot_l4:
    .skip 4096
boot_l3:
    .skip 4096
boot_l2:
    .skip 4 * 4096
.global boot_stack, boot_stack_top
boot_stack:
    .skip 64 * 1024
boot_stack_top:
