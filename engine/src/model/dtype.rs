//! Keys and values of another type than the graph has.

use std::collections::BTreeSet;

use super::halve::halved;
use super::{Element, Layout, Model, refuse};
use crate::config::KvDtype;
use crate::error::LoadError;

impl Model {
    /// With keys and values of this type.
    ///
    /// # Errors
    /// The graph has others, and cannot be changed.
    pub fn with_kv(self, dtype: KvDtype) -> Result<Self, LoadError> {
        let (wanted, instead) = match dtype {
            KvDtype::Auto => return Ok(self),
            KvDtype::F32 => (Element::F32, refuse::AS_IT_IS),
            KvDtype::F16 => (Element::F16, refuse::AS_IT_IS),
        };
        if self.kv_type == wanted {
            return Ok(self);
        }
        let other = format!("its KV cache is {}, and `kv_dtype` asks for {wanted}", self.kv_type);
        let reason = match (self.kv_type, self.layout) {
            (Element::F32, Layout::SharedBuffer) => return Ok(self.halved()),
            (Element::F32, Layout::Concatenated) => {
                format!("{other}: a cache that grows by concatenation would be cast as a whole at each token")
            }
            (Element::F32, Layout::Hybrid) => format!("{other}: states and windows keep their type"),
            _ => other,
        };
        Err(LoadError::Unsupported { path: self.file, reason, instead })
    }

    fn halved(self) -> Self {
        let kv_bytes_per_token = self.kv_bytes_per_token / 2;
        Self { kv_type: Element::F16, kv_bytes_per_token, halved: true, ..self }
    }

    /// The graph, where it is not what its file holds.
    pub(crate) fn changed_graph(&self) -> Result<Option<Vec<u8>>, LoadError> {
        if !self.halved {
            return Ok(None);
        }
        let caches = self.wiring.caches.iter().flat_map(|cache| [cache.past.clone(), cache.present.clone()]);
        halved(&self.file, &caches.collect::<BTreeSet<_>>()).map(Some)
    }
}
