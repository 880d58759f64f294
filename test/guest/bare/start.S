/*
 * The first instructions of the guest: the PVH entry point, a stack, cleared .bss, segments of our own, and
 * the stubs that turn a CPU exception into a call of fault_handle().
 *
 * PVH (Xen docs/misc/pvh.pandoc): the VMM finds the entry point in an ELF note and jumps to it in 32-bit
 * protected mode with flat segments, paging off, interrupts off and EBX pointing at struct hvm_start_info.
 */

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define CODE_SELECTOR 0x08
#define DATA_SELECTOR 0x10
#define STACK_BYTES 16384

    .code32

    /*
     * There must be exactly one PT_NOTE: linux-loader (cloud-hypervisor) lets the last one decide. QEMU reads
     * the descriptor as a size_t, hence eight bytes.
     */
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long _start, 0

    .text
    .globl _start
_start:
    cli
    cld
    movl $stack_top, %esp

    /* A loader need not clear p_memsz - p_filesz: linux-loader does not, and RAM survives a guest reboot. */
    movl $__bss_start, %edi
    movl $__bss_end, %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    xorl %eax, %eax
    rep stosl

    /* The PVH GDT may lie in memory that we are going to use. */
    lgdt gdt_pointer
    ljmp $CODE_SELECTOR, $1f
1:  movl $DATA_SELECTOR, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss

    pushl %ebx
    call bare_main
2:  hlt
    jmp 2b

/*
 * bool paging_switch_on(uint32_t cr0): false when the CPU refuses. A KVM that has no paging in legacy mode
 * answers with an exception at paging_attempt, which ends in paging_refused.
 */
    .globl paging_switch_on, paging_attempt
paging_switch_on:
    movl 4(%esp), %eax
paging_attempt:
    movl %eax, %cr0
    movl $1, %eax
    ret

/* Exceptions 0 to 31. Some push an error code by themselves (Intel SDM 3A, 6.15; AMD APM 2, 8.2). */
#define HAS_ERROR_CODE(n) \
    (n == 8 || (n >= 10 && n <= 14) || n == 17 || n == 21 || n == 29 || n == 30)

    .altmacro
    .macro fault_stub vector
fault_stub_\vector:
    .if !HAS_ERROR_CODE(\vector)
    pushl $0
    .endif
    pushl $\vector
    jmp fault_common
    .endm

    .set vector, 0
    .rept 32
    fault_stub %vector
    .set vector, vector + 1
    .endr

/*
 * fault_handle() returns for one fault only. No iret: KVM's instruction emulator lacks it in protected mode.
 * What paging_attempt had on the stack lies under vector, error code, EIP, CS and EFLAGS.
 */
fault_common:
    pushal
    pushl %esp
    call fault_handle
    addl $4, %esp
    popal
    addl $20, %esp
paging_refused:
    xorl %eax, %eax
    ret

    .section .rodata
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            /* CODE_SELECTOR: flat, 32-bit, execute and read */
    .quad 0x00cf93000000ffff            /* DATA_SELECTOR: flat, read and write */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

    .macro fault_stub_address vector
    .long fault_stub_\vector
    .endm

    .balign 4
    .globl fault_stubs
fault_stubs:
    .set vector, 0
    .rept 32
    fault_stub_address %vector
    .set vector, vector + 1
    .endr

    .bss
    .balign 16
    .skip STACK_BYTES
stack_top:

    .section .note.GNU-stack, "", @progbits
