"""Commands for gdb, to look at a PV guest from the machine's side.

pv-regs          the mode the CPU is in, and its registers
pv-walk ADDRESS  the entries of the page tables that translate an address
pv-ports         ports of the guest that are pending or masked
pv-grants ADDRESS [COUNT]
                 the used entries of a grant table (version 1) that is mapped at an address
"""
import re
import gdb

M2P = 0xFFFF800000000000
FLAGS = ["P", "RW", "US", "PWT", "PCD", "A", "D", "PS", "G"]


def physical(address, count=1):
    """Words of 64 bits at a machine address."""
    text = gdb.execute("monitor xp /%dgx 0x%x" % (count, address), to_string=True)
    return [int(word, 16) for word in re.findall(r"0x([0-9a-f]{16})", text)]


def register(name):
    """A register of the CPU that gdb looks at."""
    text = gdb.execute("monitor info registers", to_string=True)
    return int(re.search(r"\b%s=([0-9a-f]+)" % name, text).group(1), 16)


def memory(address, size):
    """A number in memory that is mapped here."""
    return int.from_bytes(bytes(gdb.selected_inferior().read_memory(address, size)), "little")


def at_entry():
    """At the guest's first instruction, where RSI has its start_info: what is found there."""
    gdb.set_convenience_variable("pv_shared", memory(value("$rsi") + 40, 8))


def value(text):
    """What an expression is."""
    return int(gdb.parse_and_eval(text)) & 0xFFFFFFFFFFFFFFFF


class Command(gdb.Command):
    """A command whose words are expressions."""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_DATA)

    def invoke(self, words, _tty):
        try:
            self.run([value(word) for word in gdb.string_to_argv(words)])
        except (IndexError, AttributeError, ValueError, gdb.error) as error:
            print("this can't be told here: %s" % error)


class Regs(Command):
    def run(self, _words):
        ring = value("$cs") & 3
        rip = value("$rip")
        who = "the hypervisor" if ring == 0 else "a guest"
        print("ring %d, %s, CR3 0x%x" % (ring, who, register("CR3")))
        gdb.execute("info symbol 0x%x" % rip)
        gdb.execute("info registers rip rsp rflags rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15 cs ss fs_base gs_base")


class Walk(Command):
    def run(self, words):
        address = words[0]
        table = register("CR3") & ~0xFFF
        for level in (4, 3, 2, 1):
            index = address >> (12 + 9 * (level - 1)) & 0x1FF
            entry = physical(table + 8 * index)[0]
            names = [name for bit, name in enumerate(FLAGS) if entry >> bit & 1]
            if entry >> 63:
                names.append("NX")
            frame = entry >> 12 & 0xFFFFFFFFFF
            print("L%d[%3d] = 0x%016x: MFN 0x%x, %s" % (level, index, entry, frame, " ".join(names) or "empty"))
            if not entry & 1:
                return
            if level == 1 or entry >> 7 & 1:
                break
            table = frame << 12
        try:
            print("the guest's number of that frame: PFN 0x%x" % memory(M2P + 8 * frame, 8))
        except gdb.MemoryError:
            print("the machine-to-physical table is not mapped here")


class Ports(Command):
    def run(self, _words):
        shared = value("$pv_shared")
        pending, masked = physical(shared + 0x800, 64), physical(shared + 0xA00, 64)
        for port in range(64 * 64):
            word, bit = port // 64, port % 64
            states = [name for name, words in (("pending", pending), ("masked", masked)) if words[word] >> bit & 1]
            if "pending" in states or (masked[word] != 0xFFFFFFFFFFFFFFFF and states):
                print("port %d: %s" % (port, ", ".join(states)))
        upcall = physical(shared)[0]
        print("vCPU 0: upcall %spending, events %smasked" % ("" if upcall & 0xFF else "not ", "" if upcall >> 8 & 0xFF else "not "))


class Grants(Command):
    def run(self, words):
        table, count = words[0], words[1] if len(words) > 1 else 512
        for number in range(count):
            at = table + 8 * number
            flags = memory(at, 2)
            if flags & 3:
                domain, frame = memory(at + 2, 2), memory(at + 4, 4)
                uses = [name for bit, name in ((2, "read-only"), (3, "read"), (4, "written")) if flags >> bit & 1]
                print("entry %d: to domain %d, MFN 0x%x %s" % (number, domain, frame, " ".join(uses)))


Regs("pv-regs")
Walk("pv-walk")
Ports("pv-ports")
Grants("pv-grants")
