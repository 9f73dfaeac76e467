//! How many bytes and tokens a model gets.

use crate::config::{ContextLimit, MemoryLimit};
use crate::error::LoadError;

/// Share of the free memory that `memory: auto` may take; the rest is for workspace and for others.
const AUTO_PERCENT: u64 = 80;

/// What is asked for, and what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) memory: MemoryLimit,
    pub(crate) context: ContextLimit,
    pub(crate) slots: u32,
    /// Bytes of KV cache for one token.
    pub(crate) per_token: u64,
    /// Bytes that each slot takes whatever it holds.
    pub(crate) per_slot: u64,
    /// Tokens that the model was made for.
    pub(crate) model_context: u32,
    /// Bytes that are free, where that is known.
    pub(crate) free: Option<u64>,
    /// All slots' memory is taken in advance, as on CUDA.
    pub(crate) upfront: bool,
}

/// What a model gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Tokens of one conversation.
    pub(crate) context: u32,
    /// Bytes of KV cache, beside what slots take whatever they hold.
    pub(crate) bytes: u64,
    /// Bytes that may be used, needed or not.
    pub(crate) room: u64,
}

impl Limits {
    /// Decides; an error where even one conversation does not fit.
    pub(crate) fn decide(wish: &Wish) -> Result<Self, LoadError> {
        let room = available(wish)?;
        let constant = wish.per_slot * u64::from(wish.slots);
        let available = room.saturating_sub(constant);
        // Conversations that must fit side by side whatever they use.
        let sharing = if wish.upfront { wish.slots } else { 1 };
        let context = match wish.context {
            ContextLimit::Tokens(0) => {
                return Err(LoadError::Setting { name: "context", value: 0, range: "`auto` or at least 1" });
            }
            ContextLimit::Tokens(tokens) if tokens > wish.model_context => {
                return Err(LoadError::Context { asked: tokens, limit: wish.model_context });
            }
            ContextLimit::Tokens(tokens) => tokens,
            ContextLimit::Auto => {
                let fitting = available / (wish.per_token * u64::from(sharing)).max(1);
                wish.model_context.min(u32::try_from(fitting).unwrap_or(u32::MAX)).max(1)
            }
        };
        let needed = wish.per_token * u64::from(context) * u64::from(sharing);
        if needed > available || constant > room {
            return Err(LoadError::Memory {
                tokens: context,
                slots: if constant > 0 { wish.slots } else { sharing },
                per_token: wish.per_token,
                needed: needed + constant,
                available: room,
            });
        }
        let useful = wish.per_token * u64::from(context) * u64::from(wish.slots);
        Ok(Self { context, bytes: available.min(useful), room })
    }
}

fn available(wish: &Wish) -> Result<u64, LoadError> {
    let share = |percent: u64| wish.free.map_or(u64::MAX, |free| free / 100 * percent);
    match wish.memory {
        MemoryLimit::Auto => Ok(share(AUTO_PERCENT)),
        MemoryLimit::Bytes(bytes) => Ok(bytes),
        MemoryLimit::Percent(percent @ 1..=100) => Ok(share(percent.into())),
        MemoryLimit::Percent(percent) => {
            Err(LoadError::Setting { name: "memory", value: percent.into(), range: "from 1 % to 100 %" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish {
        memory: MemoryLimit::Auto,
        context: ContextLimit::Auto,
        slots: 4,
        per_token: 100,
        per_slot: 0,
        model_context: 1000,
        free: Some(1_000_000),
        upfront: false,
    };

    /// Tokens of one conversation, and bytes.
    fn given(wish: &Wish) -> (u32, u64) {
        let limits = Limits::decide(wish).unwrap();
        (limits.context, limits.bytes)
    }

    #[test]
    fn auto_takes_what_slots_can_use() {
        assert_eq!(given(&WISH), (1000, 400_000));
    }

    #[test]
    fn auto_context_follows_memory() {
        let small = Wish { free: Some(50_000), ..WISH };
        assert_eq!(given(&small), (400, 40_000));
        let upfront = Wish { upfront: true, ..small };
        assert_eq!(given(&upfront), (100, 40_000));
    }

    #[test]
    fn what_slots_take_in_any_case_is_taken_off() {
        let tight = Wish { per_slot: 1000, memory: MemoryLimit::Bytes(54_000), ..WISH };
        assert_eq!(given(&tight), (500, 50_000));
        let none = Wish { memory: MemoryLimit::Bytes(3_999), ..tight };
        assert!(matches!(
            Limits::decide(&none),
            Err(LoadError::Memory { slots: 4, available: 3_999, needed: 4_100, .. })
        ));
    }

    #[test]
    fn unknown_memory_is_bounded_by_use() {
        assert_eq!(Limits::decide(&Wish { free: None, ..WISH }).unwrap().bytes, 400_000);
    }

    #[test]
    fn bytes_are_exact_and_percent_a_share() {
        let bytes = Wish { memory: MemoryLimit::Bytes(150_000), ..WISH };
        assert_eq!(given(&bytes), (1000, 150_000));
        let percent = Wish { memory: MemoryLimit::Percent(5), ..WISH };
        assert_eq!(given(&percent), (500, 50_000));
        let none = Wish { memory: MemoryLimit::Percent(0), ..WISH };
        assert!(matches!(Limits::decide(&none), Err(LoadError::Setting { name: "memory", .. })));
    }

    #[test]
    fn refusals_have_exact_numbers() {
        let beyond = Wish { context: ContextLimit::Tokens(1001), ..WISH };
        assert!(matches!(Limits::decide(&beyond), Err(LoadError::Context { asked: 1001, limit: 1000 })));
        let tight = Wish { context: ContextLimit::Tokens(500), memory: MemoryLimit::Bytes(49_999), ..WISH };
        assert!(matches!(
            Limits::decide(&tight),
            Err(LoadError::Memory { tokens: 500, slots: 1, needed: 50_000, available: 49_999, .. })
        ));
    }
}
