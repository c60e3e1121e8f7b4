/**
 * The grammar of what goes into a message head. Heads are rendered as one latin1 string, so a code
 * unit above 0xFF would be cut to its low byte (U+010A becomes LF): both patterns refuse those too.
 */

/** RFC 9110 section 5.6.2. */
export const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** A byte that no field value may hold (RFC 9110 section 5.5): CR, LF, NUL and the other controls. */
export const NOT_FIELD_VALUE = /[^\t\x20-\x7e\x80-\xff]/

/** A byte that no request target may hold on the wire. */
export const NOT_TARGET = /[^\x21-\x7e]/
