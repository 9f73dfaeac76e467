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
    /// Bytes of KV cache.
    pub(crate) bytes: u64,
}

impl Limits {
    /// Decides; an error where even one conversation does not fit.
    pub(crate) fn decide(wish: &Wish) -> Result<Self, LoadError> {
        let available = available(wish)?;
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
        if needed > available {
            return Err(LoadError::Memory {
                tokens: context,
                slots: sharing,
                per_token: wish.per_token,
                needed,
                available,
            });
        }
        let useful = wish.per_token * u64::from(context) * u64::from(wish.slots);
        Ok(Self { context, bytes: available.min(useful) })
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
        model_context: 1000,
        free: Some(1_000_000),
        upfront: false,
    };

    #[test]
    fn auto_takes_what_slots_can_use() {
        assert_eq!(Limits::decide(&WISH).unwrap(), Limits { context: 1000, bytes: 400_000 });
    }

    #[test]
    fn auto_context_follows_memory() {
        let small = Wish { free: Some(50_000), ..WISH };
        assert_eq!(Limits::decide(&small).unwrap(), Limits { context: 400, bytes: 40_000 });
        let upfront = Wish { upfront: true, ..small };
        assert_eq!(Limits::decide(&upfront).unwrap(), Limits { context: 100, bytes: 40_000 });
    }

    #[test]
    fn unknown_memory_is_bounded_by_use() {
        assert_eq!(Limits::decide(&Wish { free: None, ..WISH }).unwrap().bytes, 400_000);
    }

    #[test]
    fn bytes_are_exact_and_percent_a_share() {
        let bytes = Wish { memory: MemoryLimit::Bytes(150_000), ..WISH };
        assert_eq!(Limits::decide(&bytes).unwrap(), Limits { context: 1000, bytes: 150_000 });
        let percent = Wish { memory: MemoryLimit::Percent(5), ..WISH };
        assert_eq!(Limits::decide(&percent).unwrap(), Limits { context: 500, bytes: 50_000 });
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
