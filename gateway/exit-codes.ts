/**
 * What a gateway's process ends with after SIGTERM or SIGINT: 0 where all was kept, 1 where the end was forced (a second signal, or
 * DRAIN_TIMEOUT_MS and a second), 70 after a defect, and this one: the drain was in order, and usage that it had counted is neither in the
 * Registry nor in a journal. The log says how much. EX_IOERR of sysexits.h.
 */
export const EXIT_USAGE_LOST = 74
