/**
 * Alarms that go off in one turn of the event loop: thousands of connections that came together are cut together, some
 * 36 µs of CPU each (3,000 held the loop up for 100 ms), and those who are served meanwhile are not to wait for all of them.
 */
const RINGS_PER_TURN = 64

/**
 * Coarse time-outs for many connections: one interval for all of them, O(1) to arm, move and disarm,
 * and nothing allocated per request. Moving a deadline later, which every request does, is one store:
 * the alarm stays in its slot and is sorted anew when the slot comes up.
 */
export class TimerWheel {
  readonly tickMs: number
  readonly #slots: Alarm[]
  #interval: NodeJS.Timeout | null = null
  /** Goes on with what is due, in the next turn of the event loop. */
  #next: NodeJS.Immediate | null = null
  #armed = 0
  /** The last tick whose slot was visited, or is under visit. */
  #tick = 0
  readonly #now: () => number

  /**
   * An alarm goes off at its time or up to two ticks later, never before; where more than RINGS_PER_TURN are due at one
   * time, some turns of the event loop later still.
   *
   * @param now monotonic milliseconds; a parameter for tests
   */
  constructor(tickMs = 100, slotCount = 512, now: () => number = () => performance.now()) {
    this.tickMs = tickMs
    this.#now = now
    this.#slots = Array.from({ length: slotCount }, () => new Alarm(ignore))
  }

  /** How many alarms are armed. */
  get size(): number {
    return this.#armed
  }

  /** Sets `alarm` to go off after `ms`, whatever it was set to before. */
  arm(alarm: Alarm, ms: number): void {
    if (this.#armed === 0) this.#startTicking()
    const dueTick = Math.floor((this.#now() + ms) / this.tickMs) + 1
    alarm.dueTick = dueTick
    if (alarm.isLinked) {
      if (dueTick >= alarm.slotTick) return
      unlink(alarm)
    } else {
      this.#armed++
    }
    this.#link(alarm)
  }

  disarm(alarm: Alarm): void {
    if (!alarm.isLinked) return
    unlink(alarm)
    this.#armed--
    if (this.#armed === 0) this.#stopTicking()
  }

  /** Visits the slots that have come up. The interval calls it; tests may. */
  tick(): void {
    if (this.#next !== null) clearImmediate(this.#next)
    this.#next = null
    const current = Math.floor(this.#now() / this.tickMs)
    // After a pause longer than one turn (a suspended machine) one turn visits every slot.
    if (current - this.#tick > this.#slots.length) this.#tick = current - this.#slots.length
    let rings = RINGS_PER_TURN
    // The last one once more, for it may have been left in the midst.
    for (let tick = this.#tick; tick <= current; tick++) {
      this.#tick = tick
      rings = this.#visit(this.#slots[tick % this.#slots.length] as Alarm, current, rings)
      if (rings === 0) {
        this.#next = setImmediate(() => this.tick())
        break
      }
    }
    if (this.#armed === 0) this.#stopTicking()
  }

  /** Disarms all. */
  close(): void {
    for (const slot of this.#slots) while (slot.next !== slot) this.disarm(slot.next)
  }

  /** @returns how many of `rings` are left; with 0 the slot may not be empty */
  #visit(slot: Alarm, current: number, rings: number): number {
    let left = rings
    // An alarm never comes back into the slot under visit (#link), so this ends.
    while (slot.next !== slot && left > 0) {
      const alarm = slot.next
      unlink(alarm)
      if (alarm.dueTick > current) {
        this.#link(alarm)
      } else {
        this.#armed--
        left--
        alarm.ring()
      }
    }
    return left
  }

  #link(alarm: Alarm): void {
    const ahead = Math.min(Math.max(alarm.dueTick - this.#tick, 1), this.#slots.length - 1)
    alarm.slotTick = this.#tick + ahead
    const slot = this.#slots[alarm.slotTick % this.#slots.length] as Alarm
    alarm.next = slot.next
    alarm.prev = slot
    slot.next.prev = alarm
    slot.next = alarm
    alarm.isLinked = true
  }

  #startTicking(): void {
    if (this.#interval !== null) return
    this.#tick = Math.floor(this.#now() / this.tickMs)
    // Open sockets keep the process alive, not their time-outs.
    this.#interval = setInterval(() => this.tick(), this.tickMs).unref()
  }

  #stopTicking(): void {
    if (this.#next !== null) clearImmediate(this.#next)
    this.#next = null
    if (this.#interval === null) return
    clearInterval(this.#interval)
    this.#interval = null
  }
}

/** One time-out, owned by one connection and used for all its phases in turn. */
export class Alarm {
  /** Must not throw. The alarm is disarmed when it is called, and may be armed again by it. */
  readonly ring: () => void
  // For the wheel alone.
  next: Alarm = this
  prev: Alarm = this
  dueTick = 0
  slotTick = 0
  isLinked = false

  constructor(ring: () => void) {
    this.ring = ring
  }
}

function unlink(alarm: Alarm): void {
  alarm.prev.next = alarm.next
  alarm.next.prev = alarm.prev
  alarm.next = alarm
  alarm.prev = alarm
  alarm.isLinked = false
}

function ignore(): void {}
