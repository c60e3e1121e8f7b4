/** Longest account that is told from others, in UTF-16 units. The longest e-mail address has 320. */
const ACCOUNT_CHARS_MAX = 320
/** Accents that stand alone, control and format characters, blanks. */
const UNSEEN = /[\p{M}\p{C}\p{Z}]/gu

/**
 * One text for all spellings of an account that some app may take for the same: width, case, accents,
 * blanks and invisible characters are dropped. Two accounts that fall together share one limit, which is
 * safe; one account with two texts would have two.
 *
 * @param given the member of the login body
 * @returns null where the body names no account
 */
export function canonicalAccount(given: unknown): string | null {
  if (given === undefined || given === null) return null
  // Some apps take ["a@b.example"] for "a@b.example": all such share one limit.
  if (typeof given !== 'string' && typeof given !== 'number') return '?'
  return (
    String(given)
      // Before it is cut, or blanks in front would cut it wherever a guesser likes.
      .replace(UNSEEN, '')
      .slice(0, ACCOUNT_CHARS_MAX)
      .normalize('NFKD')
      .replace(UNSEEN, '')
      .toLowerCase()
      .slice(0, ACCOUNT_CHARS_MAX)
  )
}
