//! Virtual interrupts: what event channels can be bound to besides other domains.

numbers! {
    /// Every virtual interrupt with its C name.
    ALL: u32 {
        TIMER = 0, "VIRQ_TIMER", "The time of this vCPU's timer has come. One a vCPU.";
        DEBUG = 1, "VIRQ_DEBUG", "A request to print the domain's state. One a vCPU.";
        CONSOLE = 2, "VIRQ_CONSOLE", "Input is waiting at the hypervisor's console. Privileged.";
        DOM_EXC = 3, "VIRQ_DOM_EXC", "A domain has shut down or died. Control domain.";
        TBUF = 4, "VIRQ_TBUF", "The trace buffer has records. Privileged.";
        DEBUGGER = 6, "VIRQ_DEBUGGER", "A domain was paused for its debugger. Privileged.";
        XENOPROF = 7, "VIRQ_XENOPROF", "A profile sample was taken. One a vCPU.";
        CON_RING = 8, "VIRQ_CON_RING", "The hypervisor's log has new bytes. Privileged.";
        PCPU_STATE = 9, "VIRQ_PCPU_STATE", "A real CPU came or went. Privileged.";
        MEM_EVENT = 10, "VIRQ_MEM_EVENT", "A memory event has happened. Privileged.";
        ARGO = 11, "VIRQ_ARGO", "An Argo message has arrived.";
        ENOMEM = 12, "VIRQ_ENOMEM", "Free memory is low. Privileged.";
        XENPMU = 13, "VIRQ_XENPMU", "A performance counter overflowed. One a vCPU.";
        ARCH_0 = 16, "VIRQ_ARCH_0", "A machine check was logged. Privileged.";
    }
}

/// One more than the highest virtual interrupt.
pub const COUNT: u32 = 24;

/// Whether a virtual interrupt is bound for each vCPU, rather than once for the domain.
#[must_use]
pub const fn is_per_vcpu(virq: u32) -> bool {
    matches!(virq, TIMER | DEBUG | XENOPROF | XENPMU)
}
